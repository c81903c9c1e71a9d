"""uvicorn with settings for tunnels and long polls, and without its signal handling.

Its connections are those of `connections`, with limits.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from socket import socket
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from omega21 import open_files
from omega21.server.http.connections import Connection, ConnectionRegistry, Limits
from omega21.server.http.unauthenticated import unauthenticated_log_filter

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS: Final = 120
"""Longer than tunnels and clients keep an idle connection for reuse (cloudflared: 90 s): its opener
closes it, so that no request is sent on a connection that is being closed."""

_BACKLOG: Final = 2048
_ACCEPTED_AT_ONCE: Final = 64
"""Connections accepted between two checks of the existing ones: those that have sent data are read
before a flood of others can push them out."""

_OTHER_FILES: Final = 384
"""Open files besides connections and shards: SQLite's, with a margin."""


class Listener(uvicorn.Server):
    """Serves on given sockets until `should_exit` is set; the caller handles signals."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        on_listening: Callable[[], None],
        stop_seconds: float,
        limits: Limits | None = None,
    ) -> None:
        self._on_listening = on_listening
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=_ACCEPTED_AT_ONCE,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(stop_seconds),
            )
        )
        self.server_state = self.registry = ConnectionRegistry(
            within_open_files(limits or Limits())
        )

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start serving, and report it."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(
                _BACKLOG
            )  # asyncio uses one number for the backlog and for accepts at a time
        self._on_listening()

    async def on_tick(self, counter: int) -> bool:
        """Check the connections once a second, in addition to uvicorn's tick."""
        if counter % 10 == 0:
            self.registry.sweep(asyncio.get_running_loop().time())
            unauthenticated_log_filter.tell()
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change nothing: uvicorn would end the process by the signal, with its status."""
        yield


def within_open_files(limits: Limits) -> Limits:
    """Raise this process's limit on open files for them, or lower them to it."""
    others = _OTHER_FILES + open_files.for_shards()
    allowed = open_files.raise_limit(limits.connections + others)
    room = max(16, allowed - others)
    if room >= limits.connections:
        return limits
    logger.warning("%d files may be open here: room for %d connections", allowed, room)
    return replace(limits, connections=room)
