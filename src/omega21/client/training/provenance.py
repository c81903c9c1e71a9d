"""Under which conditions steps were computed: what makes a run's bits beside its configuration.

The server tells them for the steps that it computed; the folder keeps those of all steps. Where
they change, the run goes on, and the results say from which step.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from anyio.to_thread import run_sync

from omega21.client.events import Event, Notice
from omega21.client.store.locked_files import when_unlocked
from omega21.client.store.run_folder import RunFolder
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
    """Return the conditions of a step; None where nothing is known of it."""
    return next((s for s in reversed(environments) if s.from_step <= step), None)


def merge(ours: Sequence[Environment], theirs: Sequence[Environment]) -> list[Environment]:
    """Return the conditions of all steps: ours up to where theirs begin, then theirs."""
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
    """Say at which steps the conditions became other ones, and which before and after."""
    news = []
    before = list(ours)
    for environment in theirs:
        known = in_force(before, environment.from_step)
        if known is not None and not known.same_bits(environment):
            news.append((environment.from_step, known, environment))
        before = merge(before, [environment])
    return news


def differences(before: Environment, now: Environment) -> str:
    """Name what differs between two conditions."""
    return ", ".join(
        _("{condition} {now} (before: {before})").format(
            condition=_(name), now=getattr(now, field), before=getattr(before, field)
        )
        for field, name in _CONDITIONS.items()
        if getattr(before, field) != getattr(now, field)
    )


def changed_at(environments: Sequence[Environment], *, first: int, last: int) -> tuple[int, ...]:
    """Return the steps from `first` to `last` from which on conditions were others than before."""
    return tuple(s.from_step for s in environments[1:] if first <= s.from_step <= last)


async def note_environment(
    folder: RunFolder,
    environments: Sequence[Environment],
    *,
    emit: Callable[[Event], Awaitable[None]],
) -> None:
    """Record what the server says of the conditions, and tell what is new; once."""
    ours = await run_sync(folder.results.environments)
    merged = merge(ours, environments)
    if merged == ours:
        return
    news = changes(ours, environments)
    await when_unlocked(lambda: folder.results.put_environments(merged), emit=emit)
    for step, before, now in news:
        with speaking("en"):  # a log is the same in every language
            logged = differences(before, now)
        await run_sync(partial(folder.note, "conditions", from_step=step, now=logged))
        await emit(
            Notice(
                _(
                    "computed in another environment from step {step} on, bits may differ: {what}"
                ).format(step=step, what=differences(before, now))
            )
        )
