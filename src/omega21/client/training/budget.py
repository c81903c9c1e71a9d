"""The traffic budget of a training: estimated, reduced, or refused before it starts."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.events import Event, Notice
from omega21.client.request.data import Files
from omega21.client.request.request import FileFacts, TrainRequest, next_segment
from omega21.client.store.run_folder import EvaluateEvery, RunFolder
from omega21.client.training.estimate import Choice, Needed, Workload
from omega21.language import _
from omega21.language.figures import decimal
from omega21.protocol.errors import BudgetExceeded
from omega21.protocol.legacy import Info
from omega21.protocol.link.usage import MonthTraffic
from omega21.protocol.plan import PlanIndex, Segment, plan_steps
from omega21.protocol.runs import RunState

LONGEST_GATHER: Final = 20.0
"""Seconds for which a reply collects results when requests are limited."""


def choose(
    workload: Workload, wanted: Choice, *, budget: int | None, may_change_type: bool
) -> tuple[Choice, Needed]:
    """Return the first choice that fits the budget, starting with the requested one.

    Then in order of increasing cost: longer polls, checkpoints only at the end, samples as float16,
    no checkpoints. Raises BudgetExceeded when even that does not fit.
    """
    least: Needed | None = None
    for choice in _thriftier(wanted, may_change_type=may_change_type):
        needed = workload.needed(choice)
        if budget is None or needed.bytes <= budget:
            return choice, needed
        least = needed
    assert least is not None
    assert budget is not None
    raise BudgetExceeded(
        _("the training needs at least about {needed} MB, the budget is {budget} MB").format(
            needed=decimal(least.bytes / 1e6, 1), budget=decimal(budget / 1e6, 1)
        )
    )


def _thriftier(wanted: Choice, *, may_change_type: bool) -> Iterator[Choice]:
    choice = wanted
    yield choice
    if choice.gather < LONGEST_GATHER:
        choice = replace(choice, gather=LONGEST_GATHER)
        yield choice
    if isinstance(choice.pull, float):
        choice = replace(choice, pull="end")
        yield choice
    if may_change_type and choice.samples_type != "float16":
        choice = replace(choice, samples_type="float16")
        yield choice
    if choice.pull != "never":
        yield replace(choice, pull="never")


def describe(needed: Needed) -> str:
    """Describe the traffic of a training, in one line."""
    return _(
        "this training needs about {all} MB and {requests} requests: samples {samples} MB, "
        "results {results} MB, checkpoints {checkpoints} MB"
    ).format(
        all=decimal(needed.bytes / 1e6, 1),
        requests=needed.requests,
        samples=decimal(needed.samples / 1e6, 1),
        results=decimal(needed.results / 1e6, 1),
        checkpoints=decimal(needed.checkpoints / 1e6, 0),
    )


def what_was_chosen(wanted: Choice, choice: Choice, *, budget: int) -> str:
    """Describe what differs from the request, in one line."""
    changes = []
    if choice.samples_type != wanted.samples_type:
        changes.append(_("samples are sent as {type}").format(type=choice.samples_type))
    if choice.pull != wanted.pull:
        changes.append(
            _("no checkpoint is downloaded")
            if choice.pull == "never"
            else _("a checkpoint is downloaded only at the end")
        )
    if choice.gather != wanted.gather:
        changes.append(
            _("results are read every {seconds} s").format(seconds=decimal(choice.gather, 0))
        )
    return _("to fit the budget of {budget} MB: {changes}").format(
        budget=decimal(budget / 1e6, 1), changes=", ".join(changes)
    )


def warning(needed: Needed, traffic: MonthTraffic) -> str | None:
    """Return the warning that a training exceeds the rest of the month; None if it does not."""
    left, requests_left = traffic.bytes_left, traffic.requests_left
    fits = (left is None or needed.bytes <= left) and (
        requests_left is None or needed.requests <= requests_left
    )
    if fits:
        return None
    return _(
        "warning: {tunnel}'s free plan leaves {megabytes} MB and {requests} requests in {month}, "
        "which is not enough; --budget reduces the traffic"
    ).format(
        tunnel=traffic.tunnel,
        megabytes=decimal((left or 0) / 1e6, 1),
        requests=requests_left or 0,
        month=traffic.month,
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """The data of a run's folder; empty for a run without a folder."""

    segments: tuple[Segment, ...] = ()
    finished: int = 0
    validation: int = 0
    held_out: Mapping[str, int] = field(default_factory=dict)
    files: Files = field(default_factory=dict)
    seconds_per_step: float | None = None
    uplink: float | None = None


async def within_budget(
    api: Api,
    request: TrainRequest,
    *,
    wanted: Choice,
    path: Path,
    info: Info,
    traffic: MonthTraffic | None,
    state: RunState | None,
    file: FileFacts | None,
    files: Files,
    emit: Callable[[Event], Awaitable[None]],
) -> Choice:
    """Emit the estimated traffic and a warning; choose what fits the budget.

    Before anything is created or changed. On loopback, which has no limits, only for a budget.
    Raises BudgetExceeded.
    """
    if api.profile.is_local and request.budget is None:
        return wanted
    held = await run_sync(_look_into, path)
    inputs = request.config().sample_schema.inputs.values()
    may_change_type = request.samples_type is None and any(s.dtype == "float32" for s in inputs)
    if held.finished < len(held.segments):
        segment, may_change_type = held.segments[-1], False
        validation = held.validation
    else:
        if file is not None:
            file = replace(file, held_out=held.held_out.get(file.sha256))
        new = next_segment(request, held.segments, file=file)
        segment = new.segment
        validation = min(request.validation, new.held_out) if file else request.validation
    wanted = replace(wanted, samples_type=segment.samples_type)
    samples, steps = await _to_send(api, held, segment=segment, state=state)
    workload = Workload(
        segment=segment,
        config=request.config(),
        files={**held.files, **files},
        samples=samples,
        steps=steps,
        validation=validation,
        evaluations=_evaluations(segment, request.evaluate_every),
        parameters=info.arquitectura.parametros_totales,
        seconds_per_step=held.seconds_per_step,
        uplink=held.uplink,
    )
    choice, needed = await run_sync(
        partial(choose, workload, wanted, budget=request.budget, may_change_type=may_change_type)
    )
    for text in _said(wanted, choice, needed=needed, budget=request.budget, traffic=traffic):
        await emit(Notice(text))
    return choice


def _evaluations(segment: Segment, every: EvaluateEvery) -> int:
    """Return the maximum number of evaluations during training."""
    if every == "never":
        return 0
    period = segment.steps_per_epoch if every == "epoch" else every
    return (segment.steps - 1) // period


def _said(
    wanted: Choice,
    choice: Choice,
    *,
    needed: Needed,
    budget: int | None,
    traffic: MonthTraffic | None,
) -> Iterator[str]:
    yield describe(needed)
    if choice != wanted:
        assert budget is not None
        yield what_was_chosen(wanted, choice, budget=budget)
    if traffic is not None and (text := warning(needed, traffic)):
        yield text


def _look_into(path: Path) -> _Held:
    """Read a run's folder, if there is one. Raises RunFolderConflict."""
    if not (path / "run.json").exists():
        return _Held()
    with RunFolder.open(path) as folder:
        record = folder.record
        return _Held(
            segments=folder.segments,
            finished=record.finished_segments,
            validation=record.validation,
            held_out=record.held_out,
            files=folder.files,
            seconds_per_step=folder.results.seconds_per_step(),
            uplink=record.uplink,
        )


async def _to_send(
    api: Api, held: _Held, *, segment: Segment, state: RunState | None
) -> tuple[int, int]:
    """Count the samples still to upload, and the remaining steps.

    For a run that the server does not have, this is the maximum: all samples are uploaded and all
    steps computed again, unless it is restored from a checkpoint.
    """
    step = 0 if state is None else state.step
    segments = held.segments
    if held.finished == len(segments):
        segments = (*segments, segment)
    samples = 0
    first_steps = PlanIndex(segments).first_steps
    for number, each in enumerate(segments):
        if first_steps[number] + each.steps - 1 <= step:
            continue
        samples += each.samples
        if state is not None and number < state.segments:
            names = [ref.sha256 for ref in each.shards]
            missing = set(await api.shards.missing(names))
            samples -= sum(ref.samples for ref in each.shards if ref.sha256 not in missing)
    return samples, plan_steps(segments) - step
