"""`omega21 forget`: forgets servers and their tokens."""

from typing import Annotated

import typer

from omega21.cli.options import Json, Quiet


def forget(
    address: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Server address.", show_default="all servers"),
    ] = None,
    *,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Forget the servers that were used, and their tokens.

    Runs and results stay. Later commands need an address again.
    """
    from omega21.cli.ui.output import Output
    from omega21.client.http.address import parse_address
    from omega21.client.known_servers import forget as forget_servers
    from omega21.language import ngettext

    count = forget_servers(None if address is None else parse_address(address))
    shown = ngettext("forgot {count} server", "forgot {count} servers", count)
    Output(json=json, quiet=quiet).result({"forgotten": count}, shown.format(count=count))
