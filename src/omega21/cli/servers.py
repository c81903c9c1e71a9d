"""Which server a command uses, and with which token.

Which: the one named (argument, --url, COLAB_SERVER_URL), else the one used last.
With which token: --token-file, else --token or OMEGA21_TOKEN, else the one remembered for this very
address, else, on a terminal, where the server asks for one, the user is asked.
A server that accepted a command is remembered with its token, for its address alone.
Where it goes: only to a server that proved that it knows it (`proof`), once for each address; and
one that is given in this command only to an address that is, or that it is remembered for.
"""

import getpass
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import typer

from omega21.cli.options import ServerOptions
from omega21.cli.ui.output import Output
from omega21.client.http.address import FoundAddress, parse_address
from omega21.client.known_servers import RememberedServer, remember, remembered
from omega21.client.sync import Client
from omega21.language import _
from omega21.protocol.auth.token import optional_token, token_of_file
from omega21.protocol.auth.token_text import Token
from omega21.protocol.errors import InvalidAddress, InvalidRequest, OmegaError, Unauthorized

GIVEN: Final = "--token (OMEGA21_TOKEN)"
"""Source of a token that is not in a file, in error messages."""

_log = logging.getLogger("omega21")


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server, and how to connect to it."""

    address: str
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    timeout: float = 60.0
    attempts: int = 5
    is_token_remembered: bool = False


def find_server(options: ServerOptions, output: Output | None = None) -> Server | None:
    """Return the server at the address given, else the one used last; None where there is none.

    The one used last is named on `output`. Raises InvalidAddress, InvalidRequest for a token's file
    that holds none.
    """
    servers = remembered()
    address = options.address
    is_named = address is not None and not isinstance(address, FoundAddress)
    if address is not None:
        address = parse_address(address)
    elif servers:
        address = servers[0].address
        if output is not None:
            text = _("no address given: the server used last, {address}").format(address=address)
            output.info(text)
    else:
        return None
    token = given_token(options.token, options.token_file)
    known = next((one for one in servers if one.address == address), None)
    remembered_token = known.token if known else None
    if token and token != remembered_token and not is_named:
        # It is for the server that the user has in mind, which may not be this one.
        token = None if known and not known.token else _confirm_sending(token, address)
    return Server(
        address=address,
        token=token or remembered_token,
        ca=options.ca or (Path(known.ca) if known and known.ca else None),
        timeout=options.timeout,
        is_token_remembered=remembered_token is not None and token in (None, remembered_token),
    )


def _confirm_sending(token: Token, address: str) -> Token:
    """Return the token if the user agrees to send it to an address not given in this command.

    Raises InvalidAddress if the user does not, or cannot be asked.
    """
    asked = _("{address} was not given in this command. Send the token there?")
    if can_ask() and typer.confirm(asked.format(address=address), err=True):
        return token
    raise InvalidAddress(
        _("the token is not sent to {address}, which was not given in this command").format(
            address=address
        ),
        hint=_("if it is your server's, give it in the command or in COLAB_SERVER_URL"),
    )


def can_ask() -> bool:
    """Whether the user can be asked: standard input and error are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def read_token(path: Path) -> Token:
    """Return the token that a file holds. Raises InvalidRequest when it holds none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            _("--token-file {path} cannot be read: {why}").format(path=path, why=error.strerror)
        ) from error
    return token_of_file(data, source=f"--token-file {path}")


def given_token(token: str | None, file: Path | None) -> Token | None:
    """Return the token of this command: the file's, else that of the flag or the environment.

    None where there is none. Raises InvalidRequest for what is no token.
    """
    if file is not None:
        return read_token(file)
    return optional_token(token, source=GIVEN)


@contextmanager
def open_client(server: Server) -> Iterator[Client]:
    """Open a client of a server, and remember the server once it has accepted a request."""
    server = _ask_for_token(server)
    with Client(
        server.address,
        token=server.token,
        proof_needed=not server.is_token_remembered,
        timeout=server.timeout,
        attempts=server.attempts,
        ca=server.ca,
        on_connect=lambda info: _remember(server, client, info.server_id),
    ) as client:
        try:
            yield client
        except Unauthorized as error:
            raise _explain(error, server) from error
        if client.traffic.answers:
            _remember(server, client, client.server_id)


def _ask_for_token(server: Server) -> Server:
    """Ask the user for the token if the server requires one, none is given and there is a user."""
    if server.token or not can_ask():
        return server
    with Client(server.address, timeout=server.timeout, attempts=1, ca=server.ca) as client:
        try:
            client.connect()
        except Unauthorized:
            asked = _("token of {address} (not shown): ").format(address=server.address)
        except OmegaError:
            return server  # the command meets it too, with patience of its own
        else:
            return server
    try:
        typed = getpass.getpass(asked, stream=sys.stderr).strip()
    except EOFError:
        return server
    return replace(server, token=optional_token(typed, source=_("the input")))


def _remember(server: Server, client: Client, server_id: str | None) -> None:
    token = server.token if client.sends_token else None  # one that it does not know is not its own
    try:
        remember(server.address, token=token, ca=server.ca, server_id=server_id)
    except OSError as error:
        # What was asked for is done all the same.
        _log.warning("the server is not remembered: %s: %s", error.filename, error.strerror)


def _explain(error: Unauthorized, server: Server) -> Unauthorized:
    """Name the server whose token it is, where that is known."""
    hint = error.hint or Unauthorized.default_hint
    if server.is_token_remembered:
        return type(error)(
            _(
                "{address} does not take the token remembered for it: another server answers "
                "there now, or it was started with another token"
            ).format(address=server.address),
            hint=hint,
        )
    owner = _token_owner(server)
    if owner is None:
        return error
    return type(error)(
        _("this is the token of {owner}, not of {address}").format(
            owner=owner.address, address=server.address
        ),
        hint=hint,
    )


def _token_owner(server: Server) -> RememberedServer | None:
    """Return the other server that this token is remembered for."""
    others = (one for one in remembered() if one.token and one.address != server.address)
    return next((one for one in others if one.token == server.token), None)
