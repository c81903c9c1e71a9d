"""Connections, limited in number, time and memory.

uvicorn and h11 limit the size of an incomplete head, stop reading while 64 KiB of a body are
pending, and close a connection that is idle between two requests. Added here:

- the number of connections. When there are too many, unauthenticated ones are closed first, the
  oldest before the others, then idle ones; so a client with the token is served while others open
  ten thousand connections. A new one is refused only if every one has an active request.
- the time of a head, and the minimum rate of a body and of reading a reply.
- the total size of unread replies.
- the reply to a malformed request: a problem document like any other, instead of plain text (or of
  an exception during a reply), without a log line for each.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from omega21.language import _
from omega21.language.figures import decimal
from omega21.protocol.errors import OmegaError, Overloaded, SlowRequest
from omega21.server.http.errors import problem_response
from omega21.server.http.headers import SECURITY_HEADERS
from omega21.server.http.parser import HeadLimits, StrictParser
from omega21.server.http.unauthenticated import mark_unauthenticated

ON_AUTHENTICATED: Final = "omega21.on_authenticated"
"""The ASGI extension that the access control calls when a request is authenticated."""

_LINGER_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one listener's connections. Times in seconds, sizes in bytes.

    A head has `head_seconds` from the connection's start, or from its own first byte. A body has to
    arrive, and a reply to be read, at `rate` bytes a second after a delay of `grace_seconds`, which
    allows the stalls of a mobile network. Unread replies have at most `unread` bytes in total.
    """

    connections: int = 512
    head: HeadLimits = field(default_factory=HeadLimits)
    head_seconds: float = 20.0
    grace_seconds: float = 60.0
    rate: float = 1024.0
    unread: int = 256 * 2**20


class ConnectionRegistry(ServerState):
    """All connections of a listener: uvicorn's record of them, with those that may be closed.

    `unauthenticated` are those on which no request was authenticated yet, and `idle` those without
    a request at work, each in the order in which they became so.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        self.unauthenticated: dict[Connection, None] = {}
        self.idle: dict[Connection, None] = {}

    def add(self, connection: "Connection") -> bool:
        """Add a connection, closing another where that makes room; False without room."""
        others = next((those for those in (self.unauthenticated, self.idle) if those), None)
        full = len(self.connections) > self.limits.connections  # this one is in it already
        if full and others is not None:
            next(iter(others)).end()
        self.unauthenticated[connection] = None
        return not full or others is not None

    def mark_authenticated(self, connection: "Connection") -> None:
        """Record that a request on it was authenticated, and is at work."""
        self.unauthenticated.pop(connection, None)
        self.idle.pop(connection, None)

    def mark_idle(self, connection: "Connection") -> None:
        """Record that the request at work on it has ended."""
        if connection in self.connections and connection not in self.unauthenticated:
            self.idle.pop(connection, None)
            self.idle[connection] = None

    def remove(self, connection: "Connection") -> None:
        """Remove a connection that was closed."""
        self.connections.discard(connection)
        self.unauthenticated.pop(connection, None)
        self.idle.pop(connection, None)

    def sweep(self, now: float) -> None:
        """Close the connections that exceed their time limits."""
        for connection in self._all():
            connection.check_times(now)

    def bound_unread(self) -> None:
        """Close those with the largest unread replies, while their total is over the limit."""
        unread = {c: c.transport.get_write_buffer_size() for c in self._all()}
        while sum(unread.values()) > self.limits.unread:
            largest = max(unread, key=unread.__getitem__)
            del unread[largest]
            largest.end()

    def _all(self) -> "list[Connection]":
        return [c for c in self.connections if isinstance(c, Connection)]


class Connection(H11Protocol):
    """One connection, which enforces its own limits."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(server_state, ConnectionRegistry)
        self.registry = server_state
        self.limits = server_state.limits
        self.conn = StrictParser(self.limits.head)
        self._application: ASGIApp = self.app
        self.app = self._answer
        self._awaited_since: float | None = self.loop.time()  # the head, or the rest of it
        self._body_since: float | None = None
        self._body_bytes = 0
        self._unread_since: tuple[float, int] | None = None
        self._lingers_until: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection, or refuse it if there are too many."""
        super().connection_made(transport)
        if not self.registry.add(self):
            self._refuse(Overloaded(_("too many requests at once"), retry_after=5))

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection."""
        self.registry.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data; after a refusal it is discarded."""
        if self._lingers_until is not None:
            return
        self._body_bytes += len(data)
        mark_unauthenticated(
            is_one=True
        )  # until a request is authenticated, which its own task records
        super().data_received(data)

    def handle_events(self) -> None:
        """Handle the parsed events, or refuse the request."""
        try:
            super().handle_events()
        except OmegaError as error:
            self._refuse(error)
            return
        if self.conn.their_state is not h11.IDLE:
            self._awaited_since = None
        elif self._awaited_since is None and self.conn.trailing_data[0]:
            self._awaited_since = self.loop.time()
        if self.conn.their_state is not h11.SEND_BODY:
            self._body_since = None
        elif self._body_since is None:
            self._body_since, self._body_bytes = self.loop.time(), 0

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: a request for a WebSocket is answered like any other."""

    def on_response_complete(self) -> None:
        """Continue with the next request, unless this one is incomplete."""
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self.registry.total_requests += 1
            self._linger()
        else:
            super().on_response_complete()

    def pause_writing(self) -> None:
        """Record that a reply is waiting to be read."""
        super().pause_writing()
        self.registry.bound_unread()

    def resume_writing(self) -> None:
        """Record that a reply is being read."""
        self._unread_since = None
        super().resume_writing()

    def shutdown(self) -> None:
        """Close when the server stops, after the active request."""
        if self._lingers_until is not None:
            self.end()
        else:
            super().shutdown()

    def check_times(self, now: float) -> None:
        """Close the connection if it takes too long; called about once a second."""
        self._check_reading(now)
        limits = self.limits
        if self._lingers_until is not None:
            if now > self._lingers_until and self._unread_since is None:
                self.end()
        elif self._awaited_since is not None:
            if now > self._awaited_since + limits.head_seconds:
                self._refuse(
                    SlowRequest(
                        _("no request arrived within {seconds} s").format(
                            seconds=decimal(limits.head_seconds, 0)
                        )
                    )
                )
        elif self._body_since is not None:
            if self.flow.read_paused:  # the server itself is not reading it
                self._body_since, self._body_bytes = now, 0
            elif now > self._body_since + limits.grace_seconds + self._body_bytes / limits.rate:
                self._refuse(SlowRequest(_("the rest of the body did not arrive")))

    def end(self) -> None:
        """Abort the connection at once."""
        self.registry.remove(self)
        self.transport.abort()

    def _check_reading(self, now: float) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread == 0:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now, unread
        elif now > self._unread_since[0] + self.limits.grace_seconds:
            if self._unread_since[1] - unread < self.limits.grace_seconds * self.limits.rate:
                self.end()
            self._unread_since = now, unread

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {ON_AUTHENTICATED: partial(self.registry.mark_authenticated, self)}
        try:
            await self._application(scope, receive, send)
        finally:
            self.registry.mark_idle(self)

    def _refuse(self, error: OmegaError) -> None:
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        if cycle is None or cycle.response_complete:
            self.transport.write(_as_bytes(error))
        else:
            if not cycle.response_started:
                self.transport.write(_as_bytes(error))
            cycle.disconnected = True  # the application sees a client disconnect
            cycle.message_event.set()
        self._linger()

    def _linger(self) -> None:
        """Send nothing more, and give the peer time to read: closing now would be a reset."""
        self._unset_keepalive_if_required()
        self._lingers_until = self.loop.time() + _LINGER_SECONDS
        self.registry.unauthenticated[self] = None
        self.registry.idle.pop(self, None)
        self.flow.resume_reading()
        with contextlib.suppress(OSError):  # the peer has gone, as the next event reports
            self.transport.write_eof()


def _as_bytes(error: OmegaError) -> bytes:
    reply = problem_response(error, {**SECURITY_HEADERS, "Connection": "close"})
    reason = type(error).code.replace("_", " ")
    lines = [f"HTTP/1.1 {reply.status_code} {reason}".encode()]
    lines += [name + b": " + value for name, value in reply.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(reply.body)])
