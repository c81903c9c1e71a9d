"""Runs on the server: create, read, advance, pause, remove."""

import secrets

from omega21.client.api.endpoint import Endpoint, run_path
from omega21.models.registry import default_config
from omega21.protocol.logs import MAX_LOG_REPLY, RunLog
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
        body = CreateRun(id=run_id or secrets.token_hex(16), config=config or default_config())
        return await self._call(RunState, "PUT", run_path(run), body=body)

    async def state(self, run: str) -> RunState:
        """Return everything about a run except its results. Raises UnknownRun."""
        return await self._call(RunState, "GET", run_path(run))

    async def log(self, run: str, *, after: int = -1, limit: int = 1000) -> RunLog:
        """Return what the run's model printed: lines after a number, or the newest.

        Raises UnknownRun.
        """
        query = {"after": after, "limit": limit}
        path = f"{run_path(run)}/log"
        return await self._call(RunLog, "GET", path, query=query, max_bytes=MAX_LOG_REPLY)

    async def all(self) -> tuple[RunSummary, ...]:
        """Return the server's runs, by name."""
        return tuple((await self._call(RunList, "GET", "/runs")).runs)

    async def advance(self, run: str, *, run_id: str, to: int) -> RunSummary:
        """Raise the run's target to step `to`; a lower one changes nothing.

        On the server's disk when it returns.
        """
        body = Advance(run_id=run_id, to=to)
        return await self._call(RunSummary, "POST", f"{run_path(run)}/advance", body=body)

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
        return await self._call(RunRemoved, "DELETE", run_path(run), query={"run_id": found})

    async def _control(self, run: str, *, paused: bool) -> RunSummary:
        state = await self.state(run)
        body = Control(run_id=state.id, revision=state.revision + 1, paused=paused)
        return await self._call(RunSummary, "PUT", f"{run_path(run)}/control", body=body)
