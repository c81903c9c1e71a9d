"""Under which conditions steps were computed: what makes a run's bits beside its configuration.

The server tells them for the steps that it computed; the folder keeps those of all steps. Where
they change, the run goes on, and the results say from which step.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from anyio.to_thread import run_sync

from omega21.client.events import Event, Notice
from omega21.client.folder import RunFolder
from omega21.protocol.runs import Stretch


def in_force(stretches: Sequence[Stretch], step: int) -> Stretch | None:
    """Return the conditions of a step; None where nothing is known of it."""
    return next((s for s in reversed(stretches) if s.from_step <= step), None)


def merge(ours: Sequence[Stretch], theirs: Sequence[Stretch]) -> list[Stretch]:
    """Return the conditions of all steps: ours up to where theirs begin, then theirs."""
    if not theirs:
        return list(ours)
    merged = [stretch for stretch in ours if stretch.from_step < theirs[0].from_step]
    for stretch in theirs:
        if not merged or not merged[-1].same_conditions(stretch):
            merged.append(stretch)
    return merged


def changes(ours: Sequence[Stretch], theirs: Sequence[Stretch]) -> list[tuple[int, str]]:
    """Say at which steps the conditions became other ones, and which, if that is news."""
    news = []
    before = list(ours)
    for stretch in theirs:
        known = in_force(before, stretch.from_step)
        if known is not None and not known.same_conditions(stretch):
            news.append((stretch.from_step, differences(known, stretch)))
        before = merge(before, [stretch])
    return news


def differences(before: Stretch, now: Stretch) -> str:
    """Name what differs between two conditions."""
    return ", ".join(
        f"{name.replace('_', ' ')} {getattr(now, name)} (before: {getattr(before, name)})"
        for name in Stretch.model_fields
        if name != "from_step" and getattr(before, name) != getattr(now, name)
    )


def changed_at(stretches: Sequence[Stretch], *, first: int, last: int) -> tuple[int, ...]:
    """Return the steps from `first` to `last` from which on conditions were others than before."""
    return tuple(s.from_step for s in stretches[1:] if first <= s.from_step <= last)


async def note_conditions(
    folder: RunFolder,
    stretches: Sequence[Stretch],
    *,
    emit: Callable[[Event], Awaitable[None]],
) -> None:
    """Record what the server says of the conditions, and tell what is new; once."""
    ours = await run_sync(folder.results.stretches)
    merged = merge(ours, stretches)
    if merged == ours:
        return
    news = changes(ours, stretches)
    await run_sync(folder.results.put_stretches, merged)
    for step, what in news:
        await run_sync(partial(folder.note, "conditions", from_step=step, now=what))
        await emit(
            Notice(f"from step {step} on computed under other conditions, bits may differ: {what}")
        )
