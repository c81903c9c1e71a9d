"""Training one segment of a run, from the first request to the figures at its end.

The run folder is written first, then the server; results are stored here before anybody sees them.
So a client that is killed, a link that breaks and a server that is replaced by an empty one all
come to the same: what is there is compared, what is missing is sent, and the run goes on.

- Unreachable is not failed: every call is tried again until the link has been down for `patience`.
- A server that no longer has the run, or its shards, gets them from the folder again and replays.
- A segment that was begun is finished before another is appended.
"""

import shlex
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio
from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.concurrency import gather, run_all
from omega21.client.events import (
    Connected,
    Done,
    Event,
    How,
    Notice,
    RunReady,
    ServerSeen,
)
from omega21.client.inference import score
from omega21.client.loggers import check_loggers
from omega21.client.loggers.feeding import STOP_SECONDS, Feeds
from omega21.client.store.run_folder import RunFolder, run_folder_path
from omega21.client.store.summary import Scored, summarise
from omega21.client.training.budget import within_budget
from omega21.client.training.checkpoint_download import CheckpointDownloads
from omega21.client.training.checkpoint_restore import restore, samples_done
from omega21.client.training.estimate import Choice
from omega21.client.training.evaluation import EvaluationMonitor, held_out_count, note_evaluation
from omega21.client.training.locked_files import when_unlocked
from omega21.client.training.monitors import Monitors
from omega21.client.training.not_finite import name_held_out_rows, name_rows_of_steps
from omega21.client.training.options import TrainOptions
from omega21.client.training.provenance import changed_at, note_environment
from omega21.client.training.reconcile import find_run, open_folder, reconcile
from omega21.client.training.request import FileFacts, TrainRequest, next_segment
from omega21.client.training.results_poller import ResultsPoller
from omega21.client.training.resume import was_local
from omega21.client.training.sources import validation_blocks
from omega21.client.training.status_poller import StatusPoller
from omega21.client.training.upload import SegmentUpload, waiting_for_room, when_there_is_room
from omega21.data.sources.files import open_data
from omega21.data.sources.scale import scale_warning
from omega21.language import _
from omega21.logs import remember
from omega21.protocol.errors import (
    RunFolderConflict,
    StorageFull,
    UnknownRun,
    UnknownSegment,
    UnknownShard,
)
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.legacy import Info
from omega21.protocol.link.usage import MonthTraffic
from omega21.protocol.plan import PlanIndex, Segment, plan_steps
from omega21.protocol.runs import RunState

MEASURED_BYTES: Final = 1_000_000
"""So many bytes of samples tell how fast they go up."""

FUTILE_RETURNS: Final = 20
"""Times in a row that the server may lose what it had, without a new result in between."""


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The segment to train, and whether it is new."""

    number: int
    how: How


@dataclass(frozen=True, slots=True)
class _File:
    """The user's data file, looked at once."""

    path: Path
    sha256: str
    samples: int


class TrainingFlow:
    """Trains what a TrainRequest says, telling what happens through `emit`."""

    def __init__(
        self,
        api: Api,
        request: TrainRequest,
        options: TrainOptions,
        *,
        finishing_only: bool,
        emit: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._api = api
        self._request = request
        self._options = options
        self._path = run_folder_path(request.run, options.workdir)
        self._gather = api.profile.gather_seconds
        self._finishing_only = finishing_only
        self._emit = emit
        self._start = time.monotonic()
        self._was_ready = False

    async def run(self, patient: Api, *, first: Api) -> None:
        """Connect by `first`, then train through `patient`, which outlasts a broken link."""
        request, config = self._request, self._request.config()
        check_loggers(self._options.loggers)
        file = await run_sync(_look_at, request.data) if request.data is not None else None
        next_segment(
            request, (), file=_facts(file, held_out=None)
        )  # refuse before anything is made
        # A server that this run was on may be away for a while; a new address is wrong or right.
        info = await (patient if self._finishing_only else first).connect()
        await self._emit(Connected(self._api.address, info))
        self._api = patient
        state, traffic = await gather(lambda: find_run(patient, request.run), self._traffic)
        await self._choose_within_budget(info, traffic=traffic, state=state, file=file)
        folder = await open_folder(
            self._path, run=request.run, config=config, state=state, emit=self._emit
        )
        with folder:
            await self._note_server(folder, info.server_id)
            state = await reconcile(patient, folder, state=state, emit=self._emit)
            if state.paused:
                await self._look_at_pause(patient)
            chosen = await self._choose(folder, file)
            if request.budget is not None:
                await run_sync(
                    lambda: folder.note(
                        "budget",
                        bytes=request.budget,
                        samples_type=folder.segments[chosen.number].samples_type,
                        pull=self._options.pull,
                        gather=self._gather,
                    )
                )
            feeds = Feeds(self._options.loggers, folder=folder, number=chosen.number)
            try:
                await self._train(folder, chosen, state=state, feeds=feeds)
            finally:
                feeds.finish(STOP_SECONDS)  # nothing is left to wait for where it came to its end

    async def _look_at_pause(self, api: Api) -> None:
        """Let a paused run go on where that is what was asked for; else say how."""
        run = self._request.run
        if self._finishing_only:
            await api.runs.unpause(run)
            await self._emit(Notice(_("run {run} was paused; it continues now").format(run=run)))
            return
        command = shlex.join(["omega21", "runs", "unpause", run, "--url", api.address])
        await self._emit(
            Notice(
                _("run {run} is paused and does not train until it is resumed: {command}").format(
                    run=run, command=command
                )
            )
        )

    async def _traffic(self) -> MonthTraffic | None:
        """Ask what this month's tunnel has carried; None where there is none, on this machine."""
        if self._api.profile.is_local:
            return None
        return (await self._api.legacy.status()).traffic

    async def _choose_within_budget(
        self,
        info: Info,
        *,
        traffic: MonthTraffic | None,
        state: RunState | None,
        file: _File | None,
    ) -> None:
        wanted = Choice(pull=self._options.pull, gather=self._gather)
        choice = await within_budget(
            self._api,
            self._request,
            wanted=wanted,
            path=self._path,
            info=info,
            traffic=traffic,
            state=state,
            file=_facts(file, held_out=None),
            files={} if file is None else {file.sha256: str(file.path)},
            emit=self._emit,
        )
        self._options, self._gather = replace(self._options, pull=choice.pull), choice.gather
        if choice.samples_type != "float32":
            self._request = replace(self._request, samples_type=choice.samples_type)

    async def _note_server(self, folder: RunFolder, server_id: str) -> None:
        """Keep which server the run is on, and say when it is another machine than before."""
        record, address = folder.record, self._api.address
        if record.server_id not in (None, server_id):
            await self._emit(
                Notice(
                    _(
                        "this is not the server that the run was on last: what it lacks is sent "
                        "again"
                    )
                )
            )
        elif record.server not in (None, address) and not was_local(record, self._path.parent):
            await self._emit(Notice(_("the same server as before, at a new address")))
        await run_sync(lambda: folder.update(server=address, server_id=server_id))
        await run_sync(lambda: folder.note("connected", server=address, server_id=server_id))

    async def _choose(self, folder: RunFolder, file: _File | None) -> _Chosen:
        """Take the last segment if it is unfinished, else append one; on disk when it returns."""
        record = folder.record
        if file is not None:
            files = {**record.files, file.sha256: str(file.path)}
            await run_sync(lambda: folder.update(files=files))
        number = len(folder.segments)
        if self._finishing_only and record.finished_segments >= number:
            raise RunFolderConflict(
                _("run {run} has been finished by another program").format(run=record.run)
            )
        if record.finished_segments < number:
            await self._emit(Notice(_("the last segment is not finished: finishing it first")))
            return _Chosen(number - 1, "finishing")
        facts = _facts(file, held_out=record.held_out.get(file.sha256) if file else None)
        new = next_segment(self._request, folder.segments, file=facts)
        if file is not None:
            if text := await run_sync(lambda: scale_warning(open_data(file.path))):
                await self._emit(Notice(text))
            held_out = {**record.held_out, file.sha256: new.held_out}
            await run_sync(lambda: folder.update(held_out=held_out))
        request = self._request
        await run_sync(
            lambda: folder.update(
                validation=request.validation, evaluate_every=request.evaluate_every
            )
        )
        await run_sync(folder.put_segment, number, new.segment)
        return _Chosen(number, "continued" if number else "created")

    async def _train(
        self, folder: RunFolder, chosen: _Chosen, *, state: RunState, feeds: Feeds
    ) -> None:
        """Train and finish, again from what is there when the server lost something it had."""
        futile, reached = 0, folder.results.last_step
        while True:
            try:
                await self._session(folder, chosen, state=state, feeds=feeds)
                remember(step=folder.results.last_step)
                await self._finish(folder, chosen, feeds=feeds)
            except (UnknownRun, UnknownSegment, UnknownShard) as lost:
                futile = 0 if folder.results.last_step > reached else futile + 1
                reached = folder.results.last_step
                if futile >= FUTILE_RETURNS:
                    raise
                await self._emit(
                    Notice(
                        _("sending again what the server lost: {message}").format(
                            message=lost.message
                        )
                    )
                )
                found = await find_run(self._api, folder.record.run)
                state = await reconcile(self._api, folder, state=found, emit=self._emit)
            else:
                return

    async def _session(
        self, folder: RunFolder, chosen: _Chosen, *, state: RunState, feeds: Feeds
    ) -> None:
        """Bring the plan to the server, then raise the target and follow; upload beside both."""
        is_ready = anyio.Event()

        async def emit_when_ready(event: Event) -> None:
            await is_ready.wait()
            await self._emit(event)

        segments = folder.segments[: chosen.number + 1]
        first_steps, end = PlanIndex(segments).first_steps, plan_steps(segments)
        uploads: list[SegmentUpload] = []
        for number, segment in enumerate(segments):
            is_trained = first_steps[number] + segment.steps - 1 <= state.step
            if number >= state.segments or not is_trained:
                upload = SegmentUpload(self._api, folder, number=number, emit=emit_when_ready)
                await upload.prepare()
                await upload.announce()
                uploads.append(upload)
        state = await restore(self._api, folder, state=state, emit=self._emit)
        for upload in uploads:
            upload.skip(samples_done(segments, upload.number, step=state.durable_step))
        monitors = self._monitors(folder, chosen, first_step=first_steps[-1], feeds=feeds)
        following = ResultsPoller(
            self._api, folder, last_step=end, gather=self._gather, emit=monitors.tell
        )

        async def bring_up() -> None:
            await self._upload(folder, uploads)
            following.uploaded = True

        async def follow() -> None:
            await following.run()
            monitors.stop()

        async def train() -> None:
            await self._raise_target(folder, chosen, first_step=first_steps[-1], to=end)
            is_ready.set()
            await run_all(follow, monitors.run)

        await run_all(bring_up, train)

    async def _raise_target(
        self, folder: RunFolder, chosen: _Chosen, *, first_step: int, to: int
    ) -> None:
        """Have the server train, and tell, once, that the run is ready."""
        run, run_id = folder.record.run, folder.record.id
        position = await self._api.runs.advance(run, run_id=run_id, to=to)
        if not self._was_ready:
            self._was_ready = True
            await self._emit(
                RunReady(
                    how=chosen.how,
                    run=run,
                    run_id=run_id,
                    number=chosen.number,
                    segment=folder.segments[chosen.number],
                    first_step=first_step,
                    last_step=to,
                    position=position,
                )
            )

    async def _upload(self, folder: RunFolder, uploads: Sequence[SegmentUpload]) -> None:
        """Bring up what the server lacks, and note how fast that went."""
        start = time.monotonic()
        for upload in uploads:
            if upload.segment.samples > upload.skipped_samples:
                await upload.run()
        sent = sum(upload.bytes_sent for upload in uploads)
        if sent >= MEASURED_BYTES and not self._api.profile.is_local:
            uplink = sent / (time.monotonic() - start)
            await run_sync(lambda: folder.update(uplink=uplink))

    def _monitors(
        self, folder: RunFolder, chosen: _Chosen, *, first_step: int, feeds: Feeds
    ) -> Monitors:
        request, segment = self._request, folder.segments[chosen.number]
        return Monitors(
            evaluations=EvaluationMonitor(
                self._api,
                folder,
                number=chosen.number,
                first_step=first_step,
                samples=held_out_count(folder, segment, request.validation),
                every=request.evaluate_every,
                emit=self._emit,
            ),
            status_poller=StatusPoller(self._api, request.run, emit=self._emit),
            downloads=CheckpointDownloads(
                self._api, folder, policy=self._options.pull, emit=self._emit
            ),
            feeds=feeds,
            emit=self._emit,
        )

    async def _finish(self, folder: RunFolder, chosen: _Chosen, *, feeds: Feeds) -> None:
        """Evaluate, record that the segment is finished, and tell its figures."""
        run, segment = folder.record.run, folder.segments[chosen.number]
        evaluation = await self._evaluate(folder, chosen.number)
        status = await self._api.legacy.status(run)
        await self._emit(ServerSeen(status))
        state = await self._api.runs.state(run)
        last_step = plan_steps(folder.segments[: chosen.number + 1])
        first = folder.results.row(last_step - segment.steps + 1)
        last = folder.results.row(last_step)
        assert first is not None
        assert last is not None
        await note_environment(folder, state.environments, emit=self._emit)
        await when_unlocked(
            lambda: folder.results.put_weights(state.step, state.weights_sha256), emit=self._emit
        )
        environments = await run_sync(folder.results.environments)
        non_finite = folder.results.non_finite_steps(first=first.step, last=last.step)
        summary = summarise(
            run,
            segment,
            ends=(first, last),
            evaluation=evaluation,
            seconds=time.monotonic() - self._start,
            weights_sha256=state.weights_sha256,
            non_finite_steps=len(non_finite),
            deterministic=folder.record.config.deterministic,
            environment_changed_at=changed_at(environments, first=first.step, last=last.step),
        )
        pulling = CheckpointDownloads(self._api, folder, policy=self._options.pull, emit=self._emit)
        await pulling.at_end(last_step)
        server = status.model_dump(mode="json")
        await run_sync(lambda: folder.note("finished", **summary.as_dict(), server=server))
        await run_sync(lambda: folder.update(finished_segments=chosen.number + 1))
        if non_finite:
            await self._emit(Notice(await self._name_non_finite(folder, segment, non_finite)))
        for text in await run_sync(feeds.finish):
            await self._emit(Notice(text))
        await self._emit(Done(summary, state, evaluation))

    async def _name_non_finite(
        self, folder: RunFolder, segment: Segment, steps: Sequence[int]
    ) -> str:
        where = await run_sync(
            lambda: name_rows_of_steps(folder.segments, steps, files=folder.record.files)
        )
        text = _(
            "{count} of {steps} steps changed nothing: loss or gradient was not finite"
        ).format(count=len(steps), steps=segment.steps)
        return f"{text}: {where}" if where else text

    async def _evaluate(self, folder: RunFolder, number: int) -> Evaluation | None:
        """Score held-out samples of the segment's source, as many as were asked for and exist."""
        record, wanted = folder.record, self._request.validation
        segment = folder.segments[number]
        count = held_out_count(folder, segment, wanted)
        if count < wanted:
            await self._emit(
                Notice(
                    _(
                        "validation on {count} samples: there are too few rows to hold out more"
                    ).format(count=count)
                )
            )
        if not count:
            return None

        async def evaluate() -> Scored:  # what is up already is not sent again
            blocks = validation_blocks(segment.source, count, files=record.files)
            return await score(
                self._api, record.run, blocks=blocks, samples_type=segment.samples_type
            )

        async def tell(full: StorageFull) -> None:
            await self._emit(waiting_for_room(full))

        scored = await when_there_is_room(evaluate, tell=tell)
        if scored.evaluation.not_finite:
            where = await run_sync(
                lambda: name_held_out_rows(segment.source, scored.scores, files=record.files)
            )
            await self._emit(
                Notice(
                    _(
                        "{count} of {samples} held-out samples score NaN or infinite: {where}"
                    ).format(count=scored.evaluation.not_finite, samples=count, where=where)
                )
            )
        await note_evaluation(self._api, folder, scored, number=number, emit=self._emit)
        return scored.evaluation


def _look_at(path: Path) -> _File:
    """Look at every sample of the user's file. Raises InvalidDataFile, InvalidSamples."""
    file = open_data(path)
    file.check()
    return _File(path.resolve(), file.sha256(), len(file))


def _facts(file: _File | None, *, held_out: int | None) -> FileFacts | None:
    if file is None:
        return None
    return FileFacts(sha256=file.sha256, samples=file.samples, held_out=held_out)
