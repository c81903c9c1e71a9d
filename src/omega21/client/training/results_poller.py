"""Reads a run's results into the run folder, by cursor, until a step is reached.

Each digest is chained over all losses up to it. It is computed again here, so that a result that
was changed in transit is detected, and so is a replay that computes other bits: then the first step
that differs is found by bisection, and the results from there on replace the old ones, which go to
the log.
"""

import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import pairwise
from typing import Final

import anyio
from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.events import Event, Notice, StateChanged, StepsDone
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.locked_files import when_unlocked
from omega21.client.training.not_finite import name_rows_of_steps
from omega21.client.training.provenance import note_environment
from omega21.language import _
from omega21.language.borrowed import translated
from omega21.logs import remember
from omega21.protocol.digests import chain_result
from omega21.protocol.errors import (
    CodeNotAllowed,
    Diverged,
    InstallFailed,
    InternalError,
    OmegaError,
    OtherRun,
    OutOfDeviceMemory,
    RunFailed,
    RunFolderConflict,
    TaskFailed,
    UnknownCode,
    UnknownShard,
    error_classes,
)
from omega21.protocol.steps import MAX_WAIT_SECONDS, StepRecord, StepsReply

_LEAST_SECONDS: Final = 0.2
"""Pause between two empty replies that arrived before their wait was over."""

_LASTING: Final[Mapping[str, type[OmegaError]]] = {
    cls.code: cls
    for root in (TaskFailed, OutOfDeviceMemory, CodeNotAllowed, UnknownCode, InstallFailed)
    for cls in error_classes(root)
}
"""Errors that fail a run again after a restart: there is nothing to wait for."""


class ResultsPoller:
    """Polls one run until the server and the run folder are both at `last_step`."""

    def __init__(
        self,
        api: Api,
        folder: RunFolder,
        *,
        last_step: int,
        gather: float,
        emit: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._api = api
        self._folder = folder
        self._last_step = last_step
        self._gather = gather
        self._emit = emit
        self._state: str | None = None
        self.uploaded = False

    async def run(self) -> None:
        """Poll. Results are on disk here before they are yielded.

        Raises Diverged, RunFailed, and UnknownShard when the server waits for samples that it has
        had.
        """
        results = self._folder.results
        gather = 0.0  # the first result at once
        # If every result is here already, the first request reads the server's position.
        wait = 0.0 if results.last_step >= self._last_step else MAX_WAIT_SECONDS
        while True:
            uploaded, asked = self.uploaded, time.monotonic()
            reply = await self._api.steps.read(
                self._folder.record.run,
                after=results.last_step,
                wait=max(0.0, wait - gather),
                gather=gather,
            )
            is_ahead = await self._take(reply)
            remember(step=results.last_step)
            if reply.steps:
                if not gather:
                    await self._look_at_conditions()
                gather = self._gather
            if results.last_step >= self._last_step <= reply.step:
                return
            await self._judge(reply, uploaded=uploaded)
            if wait and not reply.steps and time.monotonic() - asked < _LEAST_SECONDS:
                # A server that keeps answering at once without results.
                await anyio.sleep(_LEAST_SECONDS)
            wait = 0.0 if is_ahead else MAX_WAIT_SECONDS

    async def _take(self, reply: StepsReply) -> bool:
        """Check and store a reply; return whether more had to be read than the reply has."""
        record, results = self._folder.record, self._folder.results
        is_ahead = False
        if reply.id != record.id:
            raise OtherRun(_("run {run!r} on the server has another id").format(run=record.run))
        if reply.steps:
            rows = reply.steps
            if rows[0].step > results.last_step + 1:
                raise RunFolderConflict(
                    _(
                        "results {first} to {last} are neither here nor on the server, which "
                        "continued from a checkpoint"
                    ).format(first=results.last_step + 1, last=rows[0].step - 1),
                    hint=_("restore the run folder from a copy, or train another run with --run"),
                )
            if not _continues(results.last_digest, rows[0]):
                rows = await self._realign(results.last_step)
                is_ahead = True
            _check_chain(rows)
            await self._store(rows)
            await self._emit(StepsDone(tuple(rows), reply, reply.waiting_for))
        elif results.digest(reply.step) not in (None, reply.digest):
            await self._store(await self._realign(reply.step))
            is_ahead = True
        if reply.state != self._state:
            self._state = reply.state
            await self._emit(StateChanged(reply))
        return is_ahead

    async def _look_at_conditions(self) -> None:
        """Record the server's environment, with its first results."""
        state = await self._api.runs.state(self._folder.record.run)
        await note_environment(self._folder, state.environments, emit=self._emit)

    async def _store(self, rows: list[StepRecord]) -> None:
        results = self._folder.results
        displaced = await when_unlocked(lambda: results.put(rows), emit=self._emit)
        if displaced:
            first = displaced[0].step
            kept = [row.model_dump(exclude_defaults=True) for row in displaced]
            await run_sync(lambda: self._folder.note("replaced", from_step=first, rows=kept))
            await self._emit(
                Notice(
                    _(
                        "from step {first} on the server computed other bits than before; the "
                        "new results replace the old ones, which are in log.jsonl"
                    ).format(first=first)
                )
            )

    async def _realign(self, differs: int) -> list[StepRecord]:
        """Find the first step that differs from the stored one; return the results from it on."""
        # A server that continued from a checkpoint has no results up to its step.
        agrees = (await self._read(1, limit=1))[0].step - 1
        while differs - agrees > 1:
            middle = (agrees + differs) // 2
            row = (await self._read(middle, limit=1))[0]
            if row.digest == self._folder.results.digest(middle):
                agrees = middle
            else:
                differs = middle
        rows = await self._read(differs, limit=1000)
        if not _continues(self._folder.results.digest(differs - 1), rows[0]):
            raise _broken_chain(differs)
        return rows

    async def _read(self, step: int, *, limit: int) -> list[StepRecord]:
        run = self._folder.record.run
        rows = (await self._api.steps.read(run, after=step - 1, limit=limit)).steps
        if not rows:
            raise InternalError(
                _("the server does not return the result of step {step}").format(step=step), hint=""
            )
        return rows

    async def _judge(self, reply: StepsReply, *, uploaded: bool) -> None:
        """Handle the state of an unfinished run."""
        try:
            check_going(reply)
        except Diverged as error:
            raise await self._with_rows(error, reply.step) from error
        if reply.target < self._last_step:
            record = self._folder.record
            await self._api.runs.advance(record.run, run_id=record.id, to=self._last_step)
        if uploaded and reply.state == "waiting" and reply.waiting_for and not reply.steps:
            raise UnknownShard(
                _("the server lost {count} of the run's shards").format(count=reply.waiting_for)
            )

    async def _with_rows(self, error: Diverged, last: int) -> Diverged:
        """Name the rows of the user's file in non-finite steps."""
        folder = self._folder
        steps = folder.results.non_finite_steps(first=1, last=last)
        where = await run_sync(
            lambda: name_rows_of_steps(
                folder.segments, steps, files=folder.files, config=folder.record.config
            )
        )
        return Diverged(f"{error.message}: {where}") if where else error


def check_going(reply: StepsReply) -> None:
    """Raise an error with the reason if a run has stopped before its end.

    Diverged; the error that would fail it again, such as TaskFailed; else RunFailed.
    """
    if reply.state == "diverged":
        raise Diverged(
            translated(reply.reason or "")
            or _("the run stopped at step {step}").format(step=reply.step)
        )
    if reply.state == "failed":
        message = _("the run failed on its server: {reason}").format(
            reason=translated(reply.reason or "") or _("no reason given")
        )
        if lasting := _LASTING.get(reply.reason_code or ""):
            raise lasting(message, hint="")  # the reason has its hint
        raise RunFailed(message)


def _continues(digest: str | None, row: StepRecord) -> bool:
    """Whether a result's digest follows from the previous one."""
    counted = None if row.non_finite or row.skipped else row.loss
    try:
        return digest is not None and chain_result(digest, row.step, counted) == row.digest
    except (ValueError, OverflowError, struct.error):
        return False  # an impossible digest, step or loss


def _check_chain(rows: list[StepRecord]) -> None:
    for before, row in pairwise(rows):
        if not _continues(before.digest, row):
            raise _broken_chain(row.step)


def _broken_chain(step: int) -> InternalError:
    return InternalError(
        _("the result of step {step} does not match its digest").format(step=step),
        hint=_("results were changed on the server or in transit; check its log and its disk"),
    )
