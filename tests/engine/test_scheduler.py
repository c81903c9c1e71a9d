"""What is done next, by plain data: no engine, no thread, no clock."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omega21.engine.scheduler import (
    FLUSH_SECONDS,
    MOST_PENDING,
    TURN_SECONDS,
    Scheduler,
    Work,
)


@dataclass(eq=False)
class Fake:
    """A run that can do what it is said to."""

    planned: bool = False
    inline: bool = False
    pending: list[int] = field(default_factory=list)
    due: float | None = None

    def can_train(self) -> bool:
        return self.planned

    def can_train_inline(self) -> bool:
        return self.inline


def scheduler() -> Scheduler[Fake]:
    return Scheduler(lambda run: run.due)


booleans = st.booleans()
idle = st.builds(Fake)
runs = st.lists(st.builds(Fake, planned=booleans, inline=booleans), max_size=6)
seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)


@given(runs=runs, now=seconds, requested=booleans)
def test_nothing_is_chosen_for_a_run_that_can_do_nothing(
    runs: list[Fake], now: float, requested: bool
) -> None:
    work = scheduler().choose(runs, now, requested=requested)

    if work is None:
        assert not requested
        assert not any(run.planned or run.inline for run in runs)
    elif work.kind == "step":
        assert work.run is not None
        assert work.run.planned
    elif work.kind == "inline":
        assert work.run is not None
        assert work.run.inline
    else:
        assert (work.kind, work.run, requested) == ("request", None, True)


@given(runs=runs, now=seconds)
def test_an_inline_batch_goes_before_planned_steps(runs: list[Fake], now: float) -> None:
    work = scheduler().choose(runs, now, requested=False)

    inline = [run for run in runs if run.inline]
    if inline:
        assert work == Work("inline", inline[0])
    else:
        assert work is None or work.kind == "step"


@given(
    abilities=st.lists(st.tuples(booleans, booleans), min_size=1, max_size=30),
)
def test_two_requests_come_in_a_row_only_where_nothing_can_be_trained(
    abilities: list[tuple[bool, bool]],
) -> None:
    run, chooser = Fake(), scheduler()
    kinds = []
    for now, (run.planned, run.inline) in enumerate(abilities):
        work = chooser.choose([run], float(now), requested=True)
        assert work is not None
        kinds.append(work.kind)

    for (before, kind), (planned, inline) in zip(pairwise(kinds), abilities[1:], strict=True):
        if kind == "request":
            assert before != "request" or not (planned or inline)
        else:
            assert planned or inline


@given(
    count=st.integers(1, 6),
    step_seconds=st.floats(min_value=0.01, max_value=3),
    requested=booleans,
)
@example(count=2, step_seconds=3.0, requested=True)  # each turn began at a request
def test_no_run_starves(count: int, step_seconds: float, requested: bool) -> None:
    runs, chooser = [Fake(planned=True) for _ in range(count)], scheduler()
    last_trained = dict.fromkeys(runs, 0.0)
    now = 0.0
    longest = count * (TURN_SECONDS + 2 * step_seconds)  # requests take every second place

    while now < 3 * longest:
        work = chooser.choose(runs, now, requested=requested)
        assert work is not None
        now += step_seconds
        if work.run is not None:
            last_trained[work.run] = now
        assert all(now - trained <= longest + step_seconds for trained in last_trained.values())


def test_turns_last_their_time_and_go_round() -> None:
    runs, chooser = [Fake(planned=True) for _ in range(3)], scheduler()
    steps = Counter[int]()
    order: list[int] = []
    for tick in range(30):  # ten steps a turn
        work = chooser.choose(runs, tick * TURN_SECONDS / 10, requested=False)
        assert work is not None
        assert work.run is not None
        number = runs.index(work.run)
        steps[number] += 1
        if not order or order[-1] != number:
            order.append(number)

    assert order == [0, 1, 2]
    assert set(steps.values()) == {10}


def test_a_run_that_has_nothing_more_to_train_ends_its_turn() -> None:
    first, second = Fake(planned=True), Fake(planned=True)
    chooser = scheduler()
    assert chooser.choose([first, second], 0.0, requested=False) == Work("step", first)

    first.planned = False

    assert chooser.choose([first, second], 0.1, requested=False) == Work("step", second)


def test_a_run_that_was_removed_in_its_turn_is_not_missed() -> None:
    removed, left = Fake(planned=True), Fake(planned=True)
    chooser = scheduler()
    assert chooser.choose([removed, left], 0.0, requested=False) == Work("step", removed)

    removed.planned = False

    assert chooser.choose([left], 0.1, requested=False) == Work("step", left)


@given(run=st.builds(Fake, planned=booleans, inline=booleans), requested=booleans)
def test_a_due_checkpoint_goes_before_everything(run: Fake, requested: bool) -> None:
    due = Fake(due=1.0, pending=[1])

    assert scheduler().choose([run, due], 1.0, requested=requested) == Work("checkpoint", due)


def test_records_that_wait_are_written_at_most_every_half_second() -> None:
    run, chooser = Fake(planned=True, pending=[1]), scheduler()

    kinds = []
    for tick in range(20):
        work = chooser.choose([run], tick * FLUSH_SECONDS / 5, requested=False)
        assert work is not None
        kinds.append(work.kind)

    assert kinds == ["flush", "step", "step", "step", "step"] * 4


def test_a_run_whose_records_the_disk_does_not_take_is_not_trained() -> None:
    stuck, chooser = Fake(planned=True, pending=list(range(MOST_PENDING))), scheduler()
    assert chooser.choose([stuck], 0.0, requested=False) == Work("flush")

    assert chooser.choose([stuck], 0.0, requested=False) is None
    assert chooser.idle_seconds([stuck], 0.0) == FLUSH_SECONDS


@pytest.mark.parametrize(
    ("dues", "expected"),
    [([], None), ([None], None), ([None, 7.0, 5.0], 2.0), ([1.0], 0.0)],
)
def test_idle_until_the_next_checkpoint(dues: list[float | None], expected: float | None) -> None:
    assert scheduler().idle_seconds([Fake(due=due) for due in dues], 3.0) == expected
