"""Executing a run again, under another name, and comparing every result to the bit.

A step's result depends on the run's configuration, its samples and the conditions it is computed
under, never on the run's name: so a copy that comes to the same chain of digests shows that the
results are those of this plan. The copy lives in the run folder's verify/ meanwhile.
"""

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.concurrency import run_all
from omega21.client.events import Event, StepsDone
from omega21.client.http.link import LOCAL
from omega21.client.store.checkpoints import HeldCheckpoint, find_checkpoint
from omega21.client.store.run_folder import RunFolder, run_folder_path
from omega21.client.tasks.code import ensure_code
from omega21.client.training.checkpoint_restore import samples_done, send_checkpoint
from omega21.client.training.provenance import differences, in_force
from omega21.client.training.results_poller import ResultsPoller
from omega21.client.training.upload import SegmentUpload
from omega21.language import _
from omega21.protocol.errors import NotReproduced, OmegaError, RunFolderConflict, UnknownRun
from omega21.protocol.plan import PlanIndex, plan_steps
from omega21.protocol.runs import Environment, RunState
from omega21.protocol.steps import StepRecord

PATIENCE: Final = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """Steps `first` to `last` came out the same to the bit, and the weights where known."""

    run: str
    first: int
    last: int
    weights_sha256: str
    weights_known: bool


def verify_folder(run_folder: Path) -> Path:
    """Return where the copy of a run lives while it is verified."""
    return run_folder / "verify"


def recorded_environment(run: str, workdir: Path | None = None) -> Environment | None:
    """Return the conditions that a run's last steps were computed under, where they are known."""
    with RunFolder.open(run_folder_path(run, workdir)) as folder:
        return in_force(folder.results.environments(), folder.results.last_step)


class Verification:
    """Executes one run again on a server."""

    def __init__(
        self,
        api: Api,
        run: str,
        *,
        workdir: Path | None,
        from_step: int,
        tell: Callable[[str], None] | None,
    ) -> None:
        self._api = api.patient(PATIENCE)
        self._path = run_folder_path(run, workdir)
        self._from_step = from_step
        self._tell = tell or _say_nothing
        self._copy_name = ""
        self._tenths = 0

    async def run(self) -> Verified:
        """Verify, and remove the copy from the server and from here.

        Raises NotReproduced, naming the first step that differs, and RunFolderConflict when there
        is nothing to compare with.
        """
        await self._api.connect()
        with await run_sync(RunFolder.open, self._path) as original:
            last = min(original.results.last_step, plan_steps(original.segments))
            if last < max(self._from_step, 1):
                raise RunFolderConflict(
                    _("{path} holds results up to step {last} only").format(
                        path=self._path, last=last
                    )
                )
            held = await run_sync(find_checkpoint, original) if self._from_step > 1 else None
            if held is not None and held.step >= self._from_step:
                held = None
            first = 1 if held is None else held.step + 1
            place = verify_folder(self._path) / "copy"
            copy = await run_sync(_copy, original, place, first - 1)
            self._copy_name = copy.record.run
            try:
                with copy:
                    self._tell(
                        _("executing steps {first} to {last} again as run {run}").format(
                            first=first, last=last, run=copy.record.run
                        )
                    )
                    state = await self._execute(original, copy, held=held, last=last)
                    return await self._conclude(original, state, (first, last))
            finally:
                with anyio.CancelScope(shield=True):
                    await self._remove(copy)

    async def _execute(
        self, original: RunFolder, copy: RunFolder, *, held: HeldCheckpoint | None, last: int
    ) -> RunState:
        api, record = self._api, copy.record
        await ensure_code(api, record.config.task, original.code(), emit=_ignore)
        state = await api.runs.create(record.run, run_id=record.id, config=record.config)
        first_steps = PlanIndex(copy.segments).first_steps
        uploads = []
        for number in range(len(copy.segments)):
            if first_steps[number] <= last:
                upload = SegmentUpload(api, copy, number=number, emit=_ignore)
                await upload.prepare()
                await upload.announce()
                uploads.append(upload)
        if held is not None:
            parts = held.parts(run_id=record.id)
            state = await send_checkpoint(api, record.run, run_id=record.id, parts=parts)
        await api.runs.advance(record.run, run_id=record.id, to=last)

        async def compare(event: Event) -> None:
            if isinstance(event, StepsDone):
                await self._compare(original, event.rows)
                self._tell_tenth(event.rows[-1].step, last)

        poller = ResultsPoller(api, copy, last_step=last, gather=LOCAL.gather_seconds, emit=compare)

        async def upload_all() -> None:
            for upload in uploads:
                done = samples_done(copy.segments, upload.number, step=state.step)
                upload.skip(done)
                if done < copy.segments[upload.number].samples:
                    await upload.run()
            poller.uploaded = True

        await run_all(upload_all, poller.run)
        return await api.runs.state(record.run)

    def _tell_tenth(self, step: int, last: int) -> None:
        if 10 * step // last > self._tenths:
            self._tenths = 10 * step // last
            self._tell(_("equal up to step {step} of {last}").format(step=step, last=last))

    async def _compare(self, original: RunFolder, rows: tuple[StepRecord, ...]) -> None:
        for row in rows:
            if original.results.digest(row.step) != row.digest:
                there = original.results.row(row.step)
                losses = _("loss {then} before, {now} now").format(
                    then=there.loss if there else None, now=row.loss
                )
                raise NotReproduced(
                    _("step {step} is the first that differs: {losses}").format(
                        step=row.step, losses=losses
                    ),
                    hint=await self._explain(original, step=row.step),
                )

    async def _explain(self, original: RunFolder, *, step: int) -> str:
        """Say what the conditions of a step have to do with its bits."""
        if not original.record.config.deterministic:
            return _("the run allowed nondeterministic kernels (--fast)")
        before = in_force(original.results.environments(), step)
        now = (await self._api.runs.state(self._copy_name)).environments
        here = in_force(now, step)
        if before is None or here is None:
            return _("the environment of the run's steps is not known")
        what = differences(before, here)
        if not what:
            return _("in the same environment")
        return _("computed in another environment: {what}").format(what=what)

    async def _conclude(
        self, original: RunFolder, state: RunState, steps: tuple[int, int]
    ) -> Verified:
        first, last = steps
        known = original.results.weights(up_to=last)
        is_known = known is not None and known[0] == last
        if is_known and known is not None and known[1] != state.weights_sha256:
            raise NotReproduced(
                _("all results are equal, the weights after step {last} are not").format(last=last)
            )
        return Verified(
            run=original.record.run,
            first=first,
            last=last,
            weights_sha256=state.weights_sha256,
            weights_known=is_known,
        )

    async def _remove(self, copy: RunFolder) -> None:
        """Remove the copy; a server that is gone keeps it, which is said."""
        record = copy.record
        try:
            await self._api.runs.remove(record.run, run_id=record.id)
        except UnknownRun:
            pass  # it was never made
        except OmegaError as error:
            self._tell(
                _("run {run} is still on the server: {error}").format(
                    run=record.run, error=error.message
                )
            )
        await run_sync(shutil.rmtree, copy.path)


def _copy(original: RunFolder, place: Path, known: int) -> RunFolder:
    """Make a folder of the same run under another name, with the results up to a step."""
    if place.exists():
        shutil.rmtree(place)  # a kill left it: this run's lock is held, so nobody uses it
    run_id = secrets.token_hex(16)
    record = original.record.model_copy(
        update={"run": f"verify-{run_id[:12]}", "id": run_id, "server": None, "server_id": None}
    )
    copy = RunFolder.create(place, record)
    try:
        for number, segment in enumerate(original.segments):
            copy.put_segment(number, segment)
        if known:
            copy.results.put(list(original.results.rows(last=known)))
        copy.shards = original.shards  # read from there, and mended there
    except BaseException:
        copy.close()
        raise
    return copy


def _say_nothing(_: str) -> None:
    """Discard progress messages."""


async def _ignore(_: Event) -> None:
    """Discard events of the copy's uploads."""
