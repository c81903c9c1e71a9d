"""Runs on the server: create, read, advance, pause, remove."""

import secrets

from omega21.client.api.endpoint import Endpoint, run_path
from omega21.client.http.transport import Request
from omega21.protocol.runs import (
    Advance,
    Control,
    CreateRun,
    RunConfig,
    RunList,
    RunRemoved,
    RunState,
    RunSummary,
)


class Runs(Endpoint):
    """Calls about runs."""

    async def create(
        self, run: str, *, run_id: str | None = None, config: RunConfig | None = None
    ) -> RunState:
        """Create a run, or confirm that it exists with this id and configuration.

        On the server's disk when it returns. Raises OtherRun, OtherConfig, RunDeleted.
        """
        body = CreateRun(id=run_id or secrets.token_hex(16), config=config or RunConfig())
        return (await self._send_json("PUT", run_path(run), body)).read(RunState)

    async def state(self, run: str) -> RunState:
        """Return everything about a run except its results. Raises UnknownRun."""
        return await self._get(run_path(run), RunState)

    async def all(self) -> tuple[RunSummary, ...]:
        """Return the server's runs, by name."""
        return tuple((await self._get("/runs", RunList)).runs)

    async def advance(self, run: str, *, run_id: str, to: int) -> RunSummary:
        """Raise the run's target to step `to`; a lower one changes nothing.

        On the server's disk when it returns.
        """
        body = Advance(run_id=run_id, to=to)
        return (await self._send_json("POST", f"{run_path(run)}/advance", body)).read(RunSummary)

    async def pause(self, run: str) -> RunSummary:
        """Pause a run after the current step; on the server's disk when it returns."""
        return await self._control(run, paused=True)

    async def unpause(self, run: str) -> RunSummary:
        """Resume a paused run; on the server's disk when it returns."""
        return await self._control(run, paused=False)

    async def remove(self, run: str, *, run_id: str | None = None) -> RunRemoved:
        """Remove a run from the server; its id cannot be used again.

        Without `run_id`, the run of that name as it is now. Removed on disk when it returns.
        """
        found = run_id or (await self.state(run)).id
        request = Request(method="DELETE", path=run_path(run), query={"run_id": found})
        return (await self._transport.send(request)).read(RunRemoved)

    async def _control(self, run: str, *, paused: bool) -> RunSummary:
        state = await self.state(run)
        body = Control(run_id=state.id, revision=state.revision + 1, paused=paused)
        return (await self._send_json("PUT", f"{run_path(run)}/control", body)).read(RunSummary)
