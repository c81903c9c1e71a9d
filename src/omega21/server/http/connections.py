"""Connections, bounded in number, in time and in what they hold: each costs at most itself.

uvicorn and h11 bound the size of a head that is still incomplete, stop reading while 64 KiB of a
body wait, and close a connection that is idle between two requests. Not theirs, and added here:

- how many connections there are. When there are too many, unauthenticated ones are closed first,
  the oldest before the others, then idle ones; so whoever has the token gets in while others open
  ten thousand connections. Only where every one has a request at work is a new one refused.
- how long a head may take, and how slowly a body may come or a reply may be read.
- how much of unread replies is held, in all.
- what is answered to a request that cannot be read: a problem document like any other, in place of
  plain text (and of an exception where a reply is under way), without a line in the log for each.
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
    """What one listener's connections may take. Times in seconds, sizes in bytes.

    A head has `head_seconds` from the connection's start, or from its own first byte. A body may
    come, and a reply be read, at `rate` bytes a second after a delay of `grace_seconds`: a stall
    that a phone's network recovers from is none. Unread replies hold at most `unread` in all.
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
        """End the connections whose time is over."""
        for connection in self._all():
            connection.check_times(now)

    def bound_unread(self) -> None:
        """End those that hold most, while unread replies hold too much in all."""
        unread = {c: c.transport.get_write_buffer_size() for c in self._all()}
        while sum(unread.values()) > self.limits.unread:
            largest = max(unread, key=unread.__getitem__)
            del unread[largest]
            largest.end()

    def _all(self) -> "list[Connection]":
        return [c for c in self.connections if isinstance(c, Connection)]


class Connection(H11Protocol):
    """One connection. It is refused, lingers and is ended by itself alone."""

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
        """Begin, unless there is no room for one more."""
        super().connection_made(transport)
        if not self.registry.add(self):
            self._refuse(Overloaded(_("too many requests at once"), retry_after=5))

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.registry.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read; what comes after a refusal is thrown away unread."""
        if self._lingers_until is not None:
            return
        self._body_bytes += len(data)
        mark_unauthenticated(is_one=True)  # until a request is let in, which its own task notes
        super().data_received(data)

    def handle_events(self) -> None:
        """Act on what was read, or refuse it."""
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
        """Log nothing: who asks for a WebSocket is answered like anybody else."""

    def on_response_complete(self) -> None:
        """Go on with the next request, unless this one has not even been sent to its end."""
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self.registry.total_requests += 1
            self._linger()
        else:
            super().on_response_complete()

    def pause_writing(self) -> None:
        """Note that a reply waits to be read."""
        super().pause_writing()
        self.registry.bound_unread()

    def resume_writing(self) -> None:
        """Note that a reply is being read."""
        self._unread_since = None
        super().resume_writing()

    def shutdown(self) -> None:
        """End when the server stops, after the request at work."""
        if self._lingers_until is not None:
            self.end()
        else:
            super().shutdown()

    def check_times(self, now: float) -> None:
        """End what takes too long; called about once a second."""
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
            if self.flow.read_paused:  # it is the server that does not take it
                self._body_since, self._body_bytes = now, 0
            elif now > self._body_since + limits.grace_seconds + self._body_bytes / limits.rate:
                self._refuse(SlowRequest(_("the rest of the body did not arrive")))

    def end(self) -> None:
        """Cut the connection off at once, with whatever it holds."""
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
            cycle.disconnected = True  # to the application it is as if the client had left
            cycle.message_event.set()
        self._linger()

    def _linger(self) -> None:
        """Say nothing more, and leave the peer some time to read: a close now would be a reset."""
        self._unset_keepalive_if_required()
        self._lingers_until = self.loop.time() + _LINGER_SECONDS
        self.registry.unauthenticated[self] = None
        self.registry.idle.pop(self, None)
        self.flow.resume_reading()
        with contextlib.suppress(OSError):  # the peer has gone, as we are about to be told
            self.transport.write_eof()


def _as_bytes(error: OmegaError) -> bytes:
    reply = problem_response(error, {**SECURITY_HEADERS, "Connection": "close"})
    reason = type(error).code.replace("_", " ")
    lines = [f"HTTP/1.1 {reply.status_code} {reason}".encode()]
    lines += [name + b": " + value for name, value in reply.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(reply.body)])
