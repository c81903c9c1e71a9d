"""Listening sockets and their addresses for a client."""

import os
import socket
from typing import Final

from omega21.language import _
from omega21.protocol.errors import InvalidRequest

_BACKLOG: Final = 2048


def bind(host: str, port: int) -> socket.socket:
    """Create a listening socket. Raises InvalidRequest when the address cannot be bound."""
    if not 0 <= port <= 65_535:
        raise InvalidRequest(
            _("{port} is not a port").format(port=port), hint=_("ports are 0 to 65535")
        )
    try:
        # An explicit protocol instead of the 0 of `socket.create_server`: only then does asyncio
        # set TCP_NODELAY, without which each reply waits 40 ms for the client's ACK.
        family, kind, protocol, _name, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(
            _("{host!r} is not an address of this machine: {error}").format(host=host, error=error)
        ) from error
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, kind, protocol)
        if os.name == "posix":  # on Windows it would allow two servers on one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(_BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise InvalidRequest(
            _("cannot listen on {host}, port {port}: {error}").format(
                host=host, port=port, error=error
            ),
            hint=_("choose another --port; 0 finds a free one"),
        ) from error
    return sock


def address(sock: socket.socket) -> str:
    """Return the URL by which a client on this machine reaches a listening socket.

    0.0.0.0 means every address for a server but is not one for a client, which sends no token
    there.
    """
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - the other way
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
