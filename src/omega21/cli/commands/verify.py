"""`omega21 verify`: repeats a run, and says whether the results are equal."""

from typing import Annotated, Final

import typer

from omega21.cli.options import OutputOptions, RunArgument, ServerOptions, Workdir
from omega21.language import _
from omega21.language.figures import count

EXAMPLES: Final = """
# On a server started on this machine
omega21 verify hourly
"""


def verify(
    run: RunArgument,
    *,
    from_step: Annotated[
        int,
        typer.Option(
            "--from",
            min=1,
            metavar="STEP",
            help="First step to compare; what is before it comes from the run folder's checkpoint.",
        ),
    ] = 1,
    workdir: Workdir = None,
    server: ServerOptions,
    output: OutputOptions,
) -> None:
    """Repeat a run and compare every result to the bit.

    On the server at --url, else on one started on this machine. Exits with 0 when everything is
    equal, and with 40 when a step differs.
    """
    from dataclasses import asdict

    from omega21.cli.connection import server_to_verify
    from omega21.protocol.names import checked_name

    out = output.open()
    with server_to_verify(checked_name(run), server, workdir=workdir, output=out) as client:
        same = client.verify(run, workdir=workdir, from_step=from_step, tell=out.info)
    text = (
        _("run {run}: reproduced bit for bit, steps {first} to {last}, and the weights after them")
        if same.weights_known
        else _(
            "run {run}: reproduced bit for bit, steps {first} to {last}; the weights were not known"
        )
    )
    shown = text.format(run=run, first=count(same.first), last=count(same.last))
    out.result({**asdict(same), "reproduced": True}, shown)
