"""Watches a run that another program trains, from its folder and from the server.

If the run's folder is on this machine, earlier results and evaluations are read from it, and only
newer ones from the server. Nothing is written on either side.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.concurrency import run_all
from omega21.client.events import (
    Connected,
    Done,
    Evaluated,
    RunReady,
    StateChanged,
    StepsDone,
    UploadProgress,
)
from omega21.client.remote_summary import remote_summary
from omega21.client.run_reader import StoredRun, open_stored_run
from omega21.client.store.run_folder import run_folder_path
from omega21.client.training.results_poller import check_going
from omega21.client.training.status_poller import StatusPoller
from omega21.client.training.stream import EventStream
from omega21.language import _
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.plan import PlanIndex, Segment, plan_steps
from omega21.protocol.runs import RunState
from omega21.protocol.steps import MAX_WAIT_SECONDS

FIRST_ROWS: Final = 5000
"""Maximum number of earlier results from a server: five requests.

A folder's are read completely.
"""

LAST_EVALUATION_SECONDS: Final = 30.0
"""Maximum wait for the final evaluation, which the training program records."""

_LOOK_SECONDS: Final = 0.5


class Watching(EventStream):
    """Events of a run from its present state up to `Done`; the plan may be empty at first."""

    def __init__(self, api: Api, run: str, *, workdir: Path | None, patience: float) -> None:
        super().__init__(api, patience=patience)
        self._run_name = run
        self._workdir = workdir
        self._stored: StoredRun | None = None
        self._evaluation: Evaluation | None = None
        self._profile = api.profile

    async def _produce(self, patient: Api) -> None:
        first = self._api.hurried(self._patience)
        info = await first.connect()
        await self._emit(Connected(self._api.address, info))
        state = await first.runs.state(self._run_name)
        self._api = patient
        with ExitStack() as held:
            segments = await self._planned()
            self._stored = self._open_folder(state, held)
            await self._watch(segments)

    def _hint(self) -> str | None:
        if not self._was_reached:
            return None
        return _("the run keeps training in the background; look again with: omega21 watch")

    async def _planned(self) -> tuple[Segment, ...]:
        """Wait for a plan, and return it."""
        while True:
            plan = await self._api.plans.get(self._run_name)
            if plan.segments:
                return plan.segments
            await anyio.sleep(self._profile.poll_seconds)

    def _open_folder(self, state: RunState, held: ExitStack) -> StoredRun | None:
        """Open the run's folder, if this machine has it with the same run id."""
        if not (run_folder_path(self._run_name, self._workdir) / "run.json").exists():
            return None
        stored = held.enter_context(open_stored_run(self._run_name, self._workdir))
        return stored if stored.record.id == state.id else None

    async def _watch(self, segments: tuple[Segment, ...]) -> None:
        api, run = self._api, self._run_name
        first = PlanIndex(segments).first_steps[-1]
        state = await api.runs.state(run)
        ready = RunReady(
            how="watched",
            run=run,
            run_id=state.id,
            number=len(segments) - 1,
            segment=segments[-1],
            first_step=first,
            last_step=plan_steps(segments),
            position=state,
            task=state.config.task.kind,
        )
        await self._emit(ready)
        status_poller = StatusPoller(api, run, emit=self._emit)
        status_poller.reached(state.step)
        over = anyio.Event()

        async def follow() -> None:
            await self._follow(ready, after=await self._tell_stored(ready))
            over.set()
            status_poller.stop()

        await run_all(follow, lambda: self._tell_upload(segments[-1], over), status_poller.run)
        await self._finish(ready)

    async def _tell_stored(self, ready: RunReady) -> int:
        """Emit the folder's results; return the step after which to ask the server."""
        if self._stored is None:
            return max(ready.first_step - 1, ready.position.step - FIRST_ROWS)
        for rows in self._stored.chunks(ready.first_step):
            await self._emit(StepsDone(rows, ready.position))
        await self._tell_evaluations(ready)
        return max(self._stored.results.last_step, ready.first_step - 1)

    async def _follow(self, ready: RunReady, *, after: int) -> None:
        """Emit results until the run is finished. Raises when it stopped for good before."""
        state = ""
        while True:
            reply = await self._api.steps.read(
                self._run_name,
                after=after,
                wait=MAX_WAIT_SECONDS if after < ready.last_step else 0.0,
                gather=self._profile.gather_seconds,
            )
            if reply.steps:
                after = reply.steps[-1].step
                await self._emit(StepsDone(tuple(reply.steps), reply, reply.waiting_for))
            if reply.state != state:
                state = reply.state
                await self._emit(StateChanged(reply))
            await self._tell_evaluations(ready)
            if reply.step >= ready.last_step <= after:
                return
            check_going(reply)
            if not reply.steps and reply.state in {"idle", "paused"}:
                await anyio.sleep(
                    self._profile.poll_seconds
                )  # for such a run the server answers at once

    async def _tell_upload(self, segment: Segment, over: anyio.Event) -> None:
        """Emit the number of samples that the server has, until it has all of them."""
        number = None
        while not over.is_set():
            state = await self._api.runs.state(self._run_name)
            missing = set(state.waiting_for)
            if not segment.is_whole or missing:
                plan = await self._api.plans.get(self._run_name)
                number = len(plan.segments) - 1 if number is None else number
                segment = plan.segments[number]
            there = sum(ref.samples for ref in segment.shards if ref.sha256 not in missing)
            await self._emit(
                UploadProgress(
                    generated=segment.listed_samples,
                    uploaded=there,
                    samples=segment.samples,
                    bytes_sent=0,
                )
            )
            if there == segment.samples:
                return
            with anyio.move_on_after(self._profile.poll_seconds):
                await over.wait()

    async def _tell_evaluations(self, ready: RunReady) -> None:
        if self._stored is None:
            return
        told = self._evaluation.step if self._evaluation else ready.first_step - 1
        results = self._stored.results
        for found in await run_sync(lambda: results.evaluations(after=told)):
            self._evaluation = found.evaluation
            await self._emit(Evaluated(found.evaluation, found.segment, found.ended_at))

    async def _tell_recorded(self, ready: RunReady) -> None:
        """Emit the newest evaluation that the training program recorded on the server."""
        newest, number = None, 0
        while rows := await self._api.evaluations.read(self._run_name, after=number):
            newest, number = rows[-1], rows[-1].number
        if newest is not None and newest.step >= ready.first_step:
            self._evaluation = Evaluation.model_validate(newest.model_dump())
            await self._emit(Evaluated(self._evaluation, ready.number, newest.at))

    async def _finish(self, ready: RunReady) -> None:
        """Wait briefly for the last evaluation, if one is due, and emit the summary."""
        if self._stored is not None and self._stored.record.validation:
            with anyio.move_on_after(LAST_EVALUATION_SECONDS):
                while self._evaluation is None or self._evaluation.step < ready.last_step:
                    await self._tell_evaluations(ready)
                    await anyio.sleep(_LOOK_SECONDS)
        if self._stored is None:
            await self._tell_recorded(ready)
        found = self._evaluation
        summary = await remote_summary(self._api, self._run_name)
        if found is not None:
            summary = replace(
                summary,
                validation_loss=found.loss,
                metrics=found.metrics,
                validation_samples=found.samples,
                evaluation_step=found.step,
            )
        elif self._stored is not None:
            summary = replace(summary, validation_samples=self._stored.record.validation)
        state = await self._api.runs.state(self._run_name)
        await self._emit(Done(summary, state, found))
