"""The environments of a run's steps, which decide its bits besides its configuration.

The server reports those of the steps that it computed; the folder stores those of all steps. When
the environment changes, the run continues, and the results name the first step.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from anyio.to_thread import run_sync

from omega21.client.events import Event, Notice
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.locked_files import when_unlocked
from omega21.language import N_, _, speaking
from omega21.protocol.runs import Environment

_CONDITIONS: Final = {
    "device": N_("device"),
    "precision": N_("precision"),
    "deterministic": N_("deterministic"),
    "threads": N_("threads"),
    "torch_version": N_("torch version"),
    "omega21_version": N_("omega21 version"),
}


def in_force(environments: Sequence[Environment], step: int) -> Environment | None:
    """Return the environment of a step; None if it is unknown."""
    return next((s for s in reversed(environments) if s.from_step <= step), None)


def merge(ours: Sequence[Environment], theirs: Sequence[Environment]) -> list[Environment]:
    """Merge the environments of all steps: ours up to the start of theirs, then theirs."""
    if not theirs:
        return list(ours)
    merged = [environment for environment in ours if environment.from_step < theirs[0].from_step]
    for environment in theirs:
        if not merged or not merged[-1].same_bits(environment):
            merged.append(environment)
    return merged


def changes(
    ours: Sequence[Environment], theirs: Sequence[Environment]
) -> list[tuple[int, Environment, Environment]]:
    """Return the steps at which the environment changed, with the ones before and after."""
    news = []
    before = list(ours)
    for environment in theirs:
        known = in_force(before, environment.from_step)
        if known is not None and not known.same_bits(environment):
            news.append((environment.from_step, known, environment))
        before = merge(before, [environment])
    return news


def differences(before: Environment, now: Environment) -> str:
    """Describe the differences of two environments."""
    return ", ".join(
        _("{condition} {now} (before: {before})").format(
            condition=_(name), now=getattr(now, field), before=getattr(before, field)
        )
        for field, name in _CONDITIONS.items()
        if getattr(before, field) != getattr(now, field)
    )


def changed_at(environments: Sequence[Environment], *, first: int, last: int) -> tuple[int, ...]:
    """Return the steps from `first` to `last` at which the environment changed."""
    return tuple(s.from_step for s in environments[1:] if first <= s.from_step <= last)


async def note_environment(
    folder: RunFolder,
    environments: Sequence[Environment],
    *,
    emit: Callable[[Event], Awaitable[None]],
) -> None:
    """Record the server's environments, and emit each change once."""
    ours = await run_sync(folder.results.environments)
    merged = merge(ours, environments)
    if merged == ours:
        return
    news = changes(ours, environments)
    await when_unlocked(lambda: folder.results.put_environments(merged), emit=emit)
    for step, before, now in news:
        with speaking("en"):  # a log is in English
            logged = differences(before, now)
        await run_sync(partial(folder.note, "conditions", from_step=step, now=logged))
        await emit(
            Notice(
                _(
                    "computed in another environment from step {step} on, bits may differ: {what}"
                ).format(step=step, what=differences(before, now))
            )
        )
