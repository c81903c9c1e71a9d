"""uvicorn, with the settings that tunnels and long polls need, and without its signal handling."""

import contextlib
from collections.abc import Callable, Iterator
from socket import socket
from typing import Final

import uvicorn
from starlette.types import ASGIApp

KEEP_ALIVE_SECONDS: Final = 120
"""Longer than tunnels and clients keep an idle connection to use it again (cloudflared: 90 s): the
one who opened it closes it, so no request meets a connection that is just being closed."""


class Listener(uvicorn.Server):
    """Answers on given sockets until `should_exit` is set, and leaves signals to its caller."""

    def __init__(
        self, app: ASGIApp, *, on_listening: Callable[[], None], stop_seconds: float
    ) -> None:
        self._on_listening = on_listening
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(stop_seconds),
            )
        )

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change nothing: uvicorn's own way ends the process by the signal, with its status."""
        yield
