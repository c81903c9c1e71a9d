"""How the server is, asked now and then while a run trains: device, memory, restarts."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import anyio

from omega21.client.events import Event, ServerSeen
from omega21.client.http.address import is_loopback

if TYPE_CHECKING:
    from omega21.client.client import AsyncClient

STATUS_POLL_SECONDS: Final = 60.0
"""Through a tunnel, whose requests are counted."""

STATUS_POLL_SECONDS_LOCAL: Final = 2.0


class StatusPoller:
    """Asks for a run's status once there are results, and then from time to time until `stop`."""

    def __init__(
        self, client: "AsyncClient", run: str, *, emit: Callable[[Event], Awaitable[None]]
    ) -> None:
        self._client = client
        self._run = run
        self._emit = emit
        self._begun = anyio.Event()
        self._stopped = anyio.Event()
        local = is_loopback(client.address)
        self._pause = STATUS_POLL_SECONDS_LOCAL if local else STATUS_POLL_SECONDS

    def begin(self) -> None:
        """There are results: the device has been used."""
        self._begun.set()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()
        self._begun.set()

    async def run(self) -> None:
        """Ask, and tell what came."""
        await self._begun.wait()
        while not self._stopped.is_set():
            await self._emit(ServerSeen(await self._client.status(self._run)))
            with anyio.move_on_after(self._pause):
                await self._stopped.wait()
