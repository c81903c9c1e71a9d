"""Evaluations during training: held-out samples are scored while a segment trains.

The server computes them between two steps without changing state, so the run's bits stay the same.
Each covers the samples of one request (2048), scored with the weights of one step: the newest, a
little after the one that was due.
"""

import time
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final

import anyio
from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.events import Evaluated, Event, Notice
from omega21.client.inference import score
from omega21.client.request.sources import validation_blocks
from omega21.client.store.run_folder import EvaluateEvery, RunFolder
from omega21.client.store.summary import Scored
from omega21.client.training.locked_files import when_unlocked
from omega21.data.sources.generators import KINDS
from omega21.language import _
from omega21.protocol.errors import ServerFailure
from omega21.protocol.inference import MAX_SHARDS_TO_COMPUTE
from omega21.protocol.plan import Segment
from omega21.protocol.shards import Tensors

EPOCH_SHARE: Final = 10
"""Evaluations at the ends of epochs take at most a tenth of the time."""


class EvaluationMonitor:
    """Evaluates one segment as `every` says, until `stop`; the final evaluation is separate."""

    def __init__(
        self,
        api: Api,
        folder: RunFolder,
        *,
        number: int,
        first_step: int,
        samples: int,
        every: EvaluateEvery,
        emit: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._api = api
        self._folder = folder
        self._number = number
        self._first_step = first_step
        self._samples = samples
        self._every = every
        self._emit = emit
        self._blocks: list[Tensors] = []
        self._moved = anyio.Event()
        self._stopped = False
        self._step = folder.results.last_step

    def reached(self, step: int) -> None:
        """Record that results up to this step exist."""
        self._step = max(self._step, step)
        self._wake()

    def stop(self) -> None:
        """Stop evaluating: the final evaluation follows."""
        self._stopped = True
        self._wake()

    async def run(self) -> None:
        """Evaluate at the steps that are due. Evaluations are on disk before they are emitted."""
        segment = self._folder.segments[self._number]
        period = segment.steps_per_epoch if self._every == "epoch" else self._every
        if period == "never" or not self._samples:
            return
        periods_done, next_at = self._steps_done() // period, 0.0
        while True:
            await self._moved.wait()
            if self._stopped:
                return
            self._moved = anyio.Event()
            start, done = time.monotonic(), self._steps_done()
            if done >= segment.steps or done // period <= periods_done or start < next_at:
                continue
            periods_done = done // period
            await self._evaluate(segment)
            if self._every == "epoch":
                now = time.monotonic()
                next_at = now + (EPOCH_SHARE - 1) * (now - start)

    async def _evaluate(self, segment: Segment) -> None:
        if not self._blocks:
            self._blocks = await run_sync(self._read, segment)
        try:
            scored = await score(
                self._api,
                self._folder.record.run,
                blocks=self._blocks,
                samples_type=segment.samples_type,
                schema=self._folder.record.config.sample_schema,
            )
        except ServerFailure as error:
            await self._emit(
                Notice(_("no evaluation during training: {reason}").format(reason=error.message))
            )
        else:
            await note_evaluation(
                self._api, self._folder, scored, number=self._number, emit=self._emit
            )

    def _read(self, segment: Segment) -> list[Tensors]:
        """Read the first held-out samples, which are scored at the end too: none is sent twice."""
        folder = self._folder
        blocks = validation_blocks(
            segment.source, self._samples, files=folder.files, config=folder.record.config
        )
        return list(islice(blocks, MAX_SHARDS_TO_COMPUTE))

    def _steps_done(self) -> int:
        return self._step - self._first_step + 1

    def _wake(self) -> None:
        self._moved.set()


def held_out_count(folder: RunFolder, segment: Segment, wanted: int) -> int:
    """Return the number of held-out samples that a segment's source has, of those requested."""
    source = segment.source
    if source.kind in KINDS:
        return wanted
    return min(wanted, folder.record.held_out.get(source.file_sha256 or "", 0))


async def note_evaluation(
    api: Api,
    folder: RunFolder,
    scored: Scored,
    *,
    number: int,
    emit: Callable[[Event], Awaitable[None]],
) -> None:
    """Store an evaluation of segment `number`, emit it, and record it on the server.

    A failure of the server to record it does not end the training.
    """
    ended_at = time.time()
    await when_unlocked(
        lambda: folder.results.put_evaluation(scored, segment=number, ended_at=ended_at), emit=emit
    )
    await emit(Evaluated(scored.evaluation, number, ended_at))
    run, run_id = folder.record.run, folder.record.id
    try:
        await api.evaluations.record(run, scored.evaluation, run_id=run_id)
    except ServerFailure as error:
        await emit(
            Notice(
                _("the server does not show this evaluation: {reason}").format(reason=error.message)
            )
        )
