"""Training one segment: bring its plan and samples to the server, read the results, finish.

A server that no longer has the run, or its shards, gets them from the folder again and replays.
"""

import time
from collections.abc import Sequence
from typing import Final

import anyio
from anyio.to_thread import run_sync

from omega21.client.concurrency import run_all
from omega21.client.events import Event, Notice, RunReady
from omega21.client.tasks.code import ensure_code
from omega21.client.training.checkpoint_restore import restore, samples_done
from omega21.client.training.evaluation import EvaluationMonitor, held_out_count
from omega21.client.training.finish import SegmentJob, finish_segment
from omega21.client.training.monitors import Monitors
from omega21.client.training.reconcile import find_run, reconcile
from omega21.client.training.results_poller import ResultsPoller
from omega21.client.training.status_poller import StatusPoller
from omega21.client.training.upload import SegmentUpload
from omega21.language import _
from omega21.logs import remember
from omega21.protocol.errors import UnknownCode, UnknownRun, UnknownSegment, UnknownShard
from omega21.protocol.plan import PlanIndex, plan_steps
from omega21.protocol.runs import RunState

MEASURED_BYTES: Final = 1_000_000
"""So many bytes of samples tell how fast they go up."""

FUTILE_RETURNS: Final = 20
"""Times in a row that the server may lose what it had, without a new result in between."""


class SegmentTraining:
    """Trains one segment to its end."""

    def __init__(self, job: SegmentJob) -> None:
        self._job = job
        self._was_ready = False

    async def run(self, state: RunState) -> None:
        """Train and finish, again from what is there when the server lost something it had."""
        job, folder = self._job, self._job.folder
        futile, reached = 0, folder.results.last_step
        while True:
            try:
                await self._session(state)
                remember(step=folder.results.last_step)
                await finish_segment(job)
            except (UnknownRun, UnknownSegment, UnknownShard, UnknownCode) as lost:
                futile = 0 if folder.results.last_step > reached else futile + 1
                reached = folder.results.last_step
                if futile >= FUTILE_RETURNS:
                    raise
                await job.emit(
                    Notice(
                        _("sending again what the server lost: {message}").format(
                            message=lost.message
                        )
                    )
                )
                task, kept = folder.record.config.task, folder.code()
                await ensure_code(job.api, task, kept, emit=job.emit)
                found = await find_run(job.api, folder.record.run)
                state = await reconcile(job.api, folder, state=found, emit=job.emit)
            else:
                return

    async def _session(self, state: RunState) -> None:
        """Bring the plan to the server, then raise the target and follow; upload beside both."""
        job, folder = self._job, self._job.folder
        is_ready = anyio.Event()

        async def emit_when_ready(event: Event) -> None:
            await is_ready.wait()
            await job.emit(event)

        segments = folder.segments[: job.number + 1]
        first_steps, end = PlanIndex(segments).first_steps, plan_steps(segments)
        uploads: list[SegmentUpload] = []
        for number, segment in enumerate(segments):
            is_trained = first_steps[number] + segment.steps - 1 <= state.step
            if number >= state.segments or not is_trained:
                upload = SegmentUpload(job.api, folder, number=number, emit=emit_when_ready)
                await upload.prepare()
                await upload.announce()
                uploads.append(upload)
        state = await restore(job.api, folder, state=state, emit=job.emit)
        for upload in uploads:
            upload.skip(samples_done(segments, upload.number, step=state.durable_step))
        monitors = self._monitors(first_steps[-1])
        poller = ResultsPoller(
            job.api, folder, last_step=end, gather=job.gather_seconds, emit=monitors.tell
        )

        async def upload_all() -> None:
            await self._upload(uploads)
            poller.uploaded = True

        async def poll() -> None:
            await poller.run()
            monitors.stop()

        async def train() -> None:
            await self._raise_target(end, first_step=first_steps[-1])
            is_ready.set()
            await run_all(poll, monitors.run)

        await run_all(upload_all, train)

    async def _raise_target(self, to: int, *, first_step: int) -> None:
        """Have the server train, and tell, once, that the run is ready."""
        job, record = self._job, self._job.folder.record
        position = await job.api.runs.advance(record.run, run_id=record.id, to=to)
        if not self._was_ready:
            self._was_ready = True
            await job.emit(
                RunReady(
                    how=job.how,
                    run=record.run,
                    run_id=record.id,
                    number=job.number,
                    segment=job.segment,
                    first_step=first_step,
                    last_step=to,
                    position=position,
                    task=record.config.task.kind,
                )
            )

    async def _upload(self, uploads: Sequence[SegmentUpload]) -> None:
        """Bring up what the server lacks, and note how fast that went."""
        start = time.monotonic()
        for upload in uploads:
            if upload.segment.samples > upload.skipped_samples:
                await upload.run()
        sent = sum(upload.bytes_sent for upload in uploads)
        if sent >= MEASURED_BYTES and not self._job.api.profile.is_local:
            uplink = sent / (time.monotonic() - start)
            await run_sync(lambda: self._job.folder.update(uplink=uplink))

    def _monitors(self, first_step: int) -> Monitors:
        job = self._job
        evaluations = EvaluationMonitor(
            job.api,
            job.folder,
            number=job.number,
            first_step=first_step,
            samples=held_out_count(job.folder, job.segment, job.request.validation),
            every=job.request.evaluate_every,
            emit=job.emit,
        )
        status = StatusPoller(job.api, job.request.run, emit=job.emit)
        return Monitors(evaluations, status, job.downloads(), feeds=job.feeds, emit=job.emit)
