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
from dataclasses import replace

from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.concurrency import gather
from omega21.client.events import (
    Connected,
    How,
    Notice,
)
from omega21.client.loggers import check_loggers
from omega21.client.loggers.feeding import STOP_SECONDS, Feeds
from omega21.client.request.data import Files, OpenedData, look_at, with_schema, with_schema_of_run
from omega21.client.request.request import FileFacts, TrainRequest, next_segment
from omega21.client.store.run_folder import RunFolder, read_code, run_folder_path
from omega21.client.tasks.code import check_allowed, ensure_code, with_offer
from omega21.client.tasks.probe import check_moved_task, check_task
from omega21.client.training.budget import within_budget
from omega21.client.training.estimate import Choice
from omega21.client.training.finish import SegmentJob
from omega21.client.training.options import TrainOptions
from omega21.client.training.reconcile import find_run, open_folder, reconcile
from omega21.client.training.resume import resume_command, was_local
from omega21.client.training.segment import SegmentTraining
from omega21.client.training.stream import EventStream
from omega21.data.sources.scale import scale_warnings
from omega21.language import _
from omega21.logs import log_context
from omega21.protocol.errors import (
    RunFolderConflict,
)
from omega21.protocol.legacy import Info
from omega21.protocol.link.usage import MonthTraffic
from omega21.protocol.runs import RunState
from omega21.protocol.tasks.task import CodeTask, Task


class Training(EventStream):
    """Trains what a request says; events from `Connected` to `Done`, see `EventStream`."""

    def __init__(
        self,
        api: Api,
        request: TrainRequest,
        options: TrainOptions,
        *,
        finishing_only: bool = False,
    ) -> None:
        super().__init__(api, patience=options.patience)
        self._request = request
        self._options = options
        self._path = run_folder_path(request.run, options.workdir)
        self._gather = api.profile.gather_seconds
        self._finishing_only = finishing_only

    async def _produce(self, patient: Api) -> None:
        with log_context(run=self._request.run):
            await self._train(patient, first=self._api.hurried(self._patience))

    def _hint(self) -> str | None:
        if not (self._was_reached or self._finishing_only):
            return None
        return _(
            "nothing is lost; continue with: {command} (and --url URL if its address has changed)"
        ).format(command=resume_command(self._request.run, self._options.workdir))

    async def _train(self, patient: Api, *, first: Api) -> None:
        """Connect by `first`, then train through `patient`, which outlasts a broken link."""
        start = time.monotonic()
        check_loggers(self._options.loggers)
        reached = patient if self._finishing_only else first
        info = None
        if isinstance(self._request.task, CodeTask):  # before the samples are read
            info = await self._connect_for_code(reached)
        self._request = await run_sync(with_schema_of_run, self._request, self._path)
        data = await run_sync(look_at, self._request)
        request = with_schema(self._request, data.samples if data is not None else None)
        self._request, config = request, request.config()
        # Refuse before anything is made.
        new = next_segment(request, (), file=_facts(data, held_out=None))
        # A server that this run was on may be away for a while; a new address is wrong or right.
        info = info or await reached.connect()
        await self._emit(Connected(self._api.address, info))
        self._api = patient
        body = await self._ensure_code(patient, config.task)  # the run's state needs its model
        state, traffic = await gather(lambda: find_run(patient, request.run), self._traffic)
        await self._choose_within_budget(info, traffic=traffic, state=state, data=data)
        is_here = await run_sync((self._path / "run.json").exists)
        if state is None and not is_here:
            files = _files(data)
            await check_task(patient, config, new.segment, files=files, emit=self._emit)
        folder = await open_folder(
            self._path, run=request.run, config=config, state=state, emit=self._emit
        )
        with folder:
            if body is not None:
                await run_sync(folder.put_code, body)
            if state is None and is_here:
                await check_moved_task(patient, folder, emit=self._emit)
            await self._note_server(folder, info.server_id)
            state = await reconcile(patient, folder, state=state, emit=self._emit)
            if state.paused:
                await self._look_at_pause(patient)
            number, how = await self._choose(folder, data)
            if request.budget is not None:
                await self._note_budget(folder, number)
            feeds = Feeds(self._options.loggers, folder=folder, number=number)
            job = SegmentJob(
                api=patient,
                folder=folder,
                number=number,
                how=how,
                request=self._request,
                options=self._options,
                gather_seconds=self._gather,
                feeds=feeds,
                emit=self._emit,
                start=start,
            )
            try:
                await SegmentTraining(job).run(state)
            finally:
                feeds.finish(STOP_SECONDS)  # nothing is left to wait for where it came to its end

    async def _connect_for_code(self, api: Api) -> Info:
        """Connect, and check that the server executes the user's own task."""
        info = await api.connect()
        if self._request.offered:
            self._request = await with_offer(api, self._request)
        check_allowed(info, self._request.task)
        return info

    async def _ensure_code(self, api: Api, task: Task) -> bytes | None:
        """Bring the source of the task to the server; return its body."""
        given = self._request.code
        kept = given.body if given is not None else await run_sync(read_code, self._path)
        return await ensure_code(api, task, kept, emit=self._emit)

    async def _note_budget(self, folder: RunFolder, number: int) -> None:
        budget, samples_type = self._request.budget, folder.segments[number].samples_type
        pull, gather = self._options.pull, self._gather
        await run_sync(
            lambda: folder.note(
                "budget", bytes=budget, samples_type=samples_type, pull=pull, gather=gather
            )
        )

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
        data: OpenedData | None,
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
            file=_facts(data, held_out=None),
            files=_files(data),
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

    async def _choose(self, folder: RunFolder, data: OpenedData | None) -> tuple[int, How]:
        """Take the last segment if it is unfinished, else append one; on disk when it returns."""
        record = folder.record
        if data is not None:
            await run_sync(_keep, folder, data)
        number = len(folder.segments)
        if self._finishing_only and record.finished_segments >= number:
            raise RunFolderConflict(
                _("run {run} has been finished by another program").format(run=record.run)
            )
        if record.finished_segments < number:
            await self._emit(Notice(_("the last segment is not finished: finishing it first")))
            return number - 1, "finishing"
        facts = _facts(data, held_out=record.held_out.get(data.sha256) if data else None)
        new = next_segment(self._request, folder.segments, file=facts)
        if data is not None:
            for text in await run_sync(_notices, data):
                await self._emit(Notice(text))
            held_out = {**record.held_out, data.sha256: new.held_out}
            await run_sync(lambda: folder.update(held_out=held_out))
        request = self._request
        await run_sync(
            lambda: folder.update(
                validation=request.validation, evaluate_every=request.evaluate_every
            )
        )
        await run_sync(folder.put_segment, number, new.segment)
        return number, "continued" if number else "created"


def _keep(folder: RunFolder, data: OpenedData) -> None:
    """Keep where the samples are: the file's path, or a file in the folder for arrays."""
    if data.samples.path is None:
        folder.put_data(data.samples, data.sha256)
    else:
        path = str(data.samples.path.resolve())
        folder.update(files={**folder.record.files, data.sha256: path})


def _notices(data: OpenedData) -> list[str]:
    """Return what there is to say about the user's samples."""
    notices = scale_warnings(data.samples)
    if data.converted:
        names = ", ".join(data.converted)
        notices.append(_("{names}: float64 is trained as float32").format(names=names))
    return notices


def _facts(data: OpenedData | None, *, held_out: int | None) -> FileFacts | None:
    return None if data is None else data.facts(held_out=held_out)


def _files(data: OpenedData | None) -> Files:
    return {} if data is None else {data.sha256: data.place}
