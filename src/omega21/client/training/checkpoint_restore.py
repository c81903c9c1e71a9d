"""Restores a server from the checkpoint in the run's folder, if that saves time.

A server with the run at an earlier step, or with a newly created run, can reach the checkpoint's
step in two ways: by the checkpoint, or by computing the steps. Both times are estimated from this
run's measurements, and the faster way is chosen and reported.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.events import Event, Notice
from omega21.client.store.checkpoints import HeldCheckpoint, find_checkpoint, held_step
from omega21.client.store.run_folder import RunFolder
from omega21.language import _, ngettext
from omega21.language.figures import decimal
from omega21.protocol.checkpoints import RestoreCheckpoint
from omega21.protocol.errors import Conflict, InvalidCheckpoint, OtherRun, RunDeleted
from omega21.protocol.plan import PlanIndex, Segment
from omega21.protocol.runs import RunState

ASSUMED_SECONDS_PER_STEP: Final = 0.02

Emit = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Estimated seconds to a checkpoint's step: by uploading it, or by computing the steps."""

    sending: float
    computing: float
    uplink: float
    seconds_per_step: float

    @property
    def sends(self) -> bool:
        """Whether to upload the checkpoint."""
        return self.sending < self.computing


def estimate(
    *,
    size: int,
    steps: int,
    shard_bytes: int,
    uplink: float,
    seconds_per_step: float | None,
) -> Estimate:
    """Compare uploading `size` bytes with computing `steps`, which needs `shard_bytes` of samples.

    `uplink` is in bytes per second; `seconds_per_step` is None if nothing is measured. Samples are
    uploaded while steps are computed, so that the longer of the two counts.
    """
    pace = seconds_per_step if seconds_per_step is not None else ASSUMED_SECONDS_PER_STEP
    return Estimate(
        sending=size / uplink,
        computing=max(steps * pace, shard_bytes / uplink),
        uplink=uplink,
        seconds_per_step=pace,
    )


async def restore(api: Api, folder: RunFolder, *, state: RunState, emit: Emit) -> RunState:
    """Restore the run from the folder's checkpoint, if that is beyond its step and saves time.

    The server has the run and its plan. Emits which way was chosen and why; an unusable checkpoint
    is reported, and the steps are computed.
    """
    held = await _find(folder, state, emit)
    if held is None or held.step <= state.step:
        return state
    costs = await run_sync(_estimate, api, folder, (held, state.step))
    reason = _reason(costs, held, steps=held.step - state.step)
    if not costs.sends:
        await emit(
            Notice(
                _("computing up to step {step} again instead of uploading {reason}").format(
                    step=held.step, reason=reason
                )
            )
        )
        return state
    await emit(
        Notice(
            _("restoring from the checkpoint of step {step}, {reason}").format(
                step=held.step, reason=reason
            )
        )
    )
    try:
        restored = await send_checkpoint(
            api, folder.record.run, run_id=folder.record.id, parts=held.parts()
        )
    except (OtherRun, RunDeleted):
        raise
    except (InvalidCheckpoint, Conflict) as error:
        await emit(
            Notice(_("the server refused the checkpoint: {error}").format(error=error.message))
        )
        return await api.runs.state(folder.record.run)
    step, address = held.step, api.address
    await run_sync(lambda: folder.note("restored", step=step, server=address))
    return restored


async def _find(folder: RunFolder, state: RunState, emit: Emit) -> HeldCheckpoint | None:
    """Return the folder's checkpoint if it may help; emit why there is none."""
    named = held_step(folder.path)
    if named is None and not state.step and folder.results.last_step:
        await emit(
            Notice(
                _(
                    "the folder has no checkpoint of the run: it is computed again from its first "
                    "step"
                )
            )
        )
    if named is None or named <= state.step:
        return None  # no need to read a large file
    try:
        return await run_sync(find_checkpoint, folder)
    except (InvalidCheckpoint, OSError) as error:
        await emit(Notice(_("the steps are computed again: {error}").format(error=error)))
        return None


async def send_checkpoint(api: Api, run: str, *, run_id: str, parts: Iterator[bytes]) -> RunState:
    """Send a checkpoint in parts, then the list of them; in force when it returns.

    Raises InvalidCheckpoint, Conflict when the run is beyond its step, StorageFull.
    """
    whole, size, names = hashlib.sha256(), 0, []
    while part := await run_sync(next, parts, b""):
        name = hashlib.sha256(part).hexdigest()
        await api.checkpoints.put_part(run, name, part)
        whole.update(part)
        size += len(part)
        names.append(name)
    request = RestoreCheckpoint(run_id=run_id, sha256=whole.hexdigest(), bytes=size, parts=names)
    return await api.checkpoints.restore(run, request)


def samples_done(segments: Sequence[Segment], number: int, *, step: int) -> int:
    """Count the first samples of segment `number` that no step after `step` needs.

    A segment of several epochs needs all of them until it is trained.
    """
    segment = segments[number]
    done = step - PlanIndex(segments).first_steps[number] + 1
    if done >= segment.steps:
        return segment.samples
    return max(0, done) * segment.batch_size if segment.epochs == 1 else 0


def _estimate(api: Api, folder: RunFolder, way: tuple[HeldCheckpoint, int]) -> Estimate:
    held, step = way
    return estimate(
        size=held.size,
        steps=held.step - step,
        shard_bytes=_bytes_between(folder, step, held.step),
        uplink=api.profile.upload_rate(folder.record.uplink),
        seconds_per_step=folder.results.seconds_per_step(),
    )


def _bytes_between(folder: RunFolder, step: int, until: int) -> int:
    """Sum the shards that steps after `step` need and steps after `until` do not."""
    total = 0
    for number, segment in enumerate(folder.segments):
        first = samples_done(folder.segments, number, step=step)
        last = samples_done(folder.segments, number, step=until)
        end = 0
        for ref in segment.shards:
            end += ref.samples
            if first < end <= last:
                total += folder.shard_bytes(ref)
    return total


def _reason(costs: Estimate, held: HeldCheckpoint, *, steps: int) -> str:
    return ngettext(
        "{size} MB: about {sending} s to send at {uplink} MB/s, {computing} s to compute "
        "{steps} step at {pace} ms",
        "{size} MB: about {sending} s to send at {uplink} MB/s, {computing} s to compute "
        "{steps} steps at {pace} ms",
        steps,
    ).format(
        size=decimal(held.size / 1e6, 0),
        sending=decimal(costs.sending, 0),
        uplink=decimal(costs.uplink / 1e6, 1),
        computing=decimal(costs.computing, 0),
        steps=steps,
        pace=decimal(1000 * costs.seconds_per_step, 0),
    )
