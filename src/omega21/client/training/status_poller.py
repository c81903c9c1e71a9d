"""Polls the server's status during a training: device, memory, restarts."""

from collections.abc import Awaitable, Callable

import anyio

from omega21.client.api.api import Api
from omega21.client.events import Event, ServerSeen


class StatusPoller:
    """Requests the status of a run once there are results, then at intervals until `stop`."""

    def __init__(self, api: Api, run: str, *, emit: Callable[[Event], Awaitable[None]]) -> None:
        self._api = api
        self._run = run
        self._emit = emit
        self._begun = anyio.Event()
        self._stopped = anyio.Event()

    def reached(self, _step: int) -> None:
        """Record that there are results: the device has been used."""
        self._begun.set()

    def stop(self) -> None:
        """Stop polling."""
        self._stopped.set()
        self._begun.set()

    async def run(self) -> None:
        """Request the status, and emit it."""
        await self._begun.wait()
        while not self._stopped.is_set():
            await self._emit(ServerSeen(await self._api.legacy.status(self._run)))
            with anyio.move_on_after(self._api.profile.poll_seconds):
                await self._stopped.wait()
