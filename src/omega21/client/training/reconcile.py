"""Reconciles the run folder with the server before a training.

Each of them may have the run or not. Both: their plans are compared, and the longer one is used.
Only the folder: the run is created on the server. Only the server: the folder is created. Neither:
the run is created.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.events import Event, Notice
from omega21.client.request.request import check_same_config
from omega21.client.store.run_folder import RunFolder, RunRecord
from omega21.language import _
from omega21.protocol.errors import OtherRun, PlanConflict, UnknownRun
from omega21.protocol.plan import PlanIndex, Segment, plan_sha256
from omega21.protocol.runs import RunConfig, RunState

Emit = Callable[[Event], Awaitable[None]]


async def open_folder(
    path: Path, *, run: str, config: RunConfig, state: RunState | None, emit: Emit
) -> RunFolder:
    """Open a run's folder, or create it: for the run on the server (`state`), or a new one.

    Raises OtherConfig before anything is created or changed, RunFolderConflict.
    """
    if await run_sync((path / "run.json").exists):
        folder = await run_sync(RunFolder.open, path)
        try:
            check_same_config(run, asked=config, there=folder.record.config)
        except BaseException:
            folder.close()
            raise
        return folder
    if state is not None:
        check_same_config(run, asked=config, there=state.config)
        await emit(
            Notice(
                _("run {run} is on the server but not on this machine: creating its folder").format(
                    run=run
                )
            )
        )
    record = RunRecord(
        run=run,
        id=secrets.token_hex(16) if state is None else state.id,
        config=config,
        created_at=time.time() if state is None else state.created_at,
    )
    return await run_sync(RunFolder.create, path, record)


async def find_run(api: Api, run: str) -> RunState | None:
    """Return the server's state of a run, or None if it has no run of that name."""
    try:
        return await api.runs.state(run)
    except UnknownRun:
        return None


async def reconcile(api: Api, folder: RunFolder, *, state: RunState | None, emit: Emit) -> RunState:
    """Ensure that the server has the run, and that the folder has the server's whole plan.

    `state` is the server's state of the run, None if it does not have it. On disk on both sides
    when it returns. Raises OtherRun, OtherConfig, PlanConflict.
    """
    record = folder.record
    if state is None:
        if folder.segments:
            await emit(
                Notice(
                    _("the server does not have run {run}: creating it there").format(
                        run=record.run
                    )
                )
            )
            await run_sync(lambda: folder.note("moved", server=api.address))
        return await api.runs.create(record.run, run_id=record.id, config=record.config)
    if state.id != record.id:
        raise OtherRun(
            _("the server has a run {run!r} with another id than the one in {path}").format(
                run=record.run, path=folder.path
            )
        )
    check_same_config(record.run, asked=record.config, there=state.config)
    if state.segments and state.plan_sha256 != plan_sha256(folder.segments):
        plan = await api.plans.get(record.run)
        await run_sync(_take_over, folder, plan.segments, state.step)
    return state


def _take_over(folder: RunFolder, theirs: tuple[Segment, ...], step: int) -> None:
    """Extend the folder's plan by the server's additional segments; trained ones are finished."""
    finished = folder.record.finished_segments
    first_steps = PlanIndex(theirs).first_steps
    for number, segment in enumerate(theirs):
        ours = folder.segments[number] if number < len(folder.segments) else None
        if ours is not None and ours.is_extension_of(segment):
            continue
        if ours is not None and not segment.is_extension_of(ours):
            raise PlanConflict(
                _("segment {number} on the server differs from {path}").format(
                    number=number, path=folder.path
                ),
                hint=_("another program trains this run; choose another name with --run"),
            )
        folder.put_segment(number, segment)
        is_trained = first_steps[number] + segment.steps - 1 <= step
        if ours is None and is_trained and finished == number:
            finished = number + 1
    folder.update(finished_segments=finished)
