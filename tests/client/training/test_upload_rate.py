"""How many shards go up at a time, and how hard they are compressed."""

from collections.abc import Iterable

import pytest

from omega21.client.training.upload_rate import BEHIND, FEWEST, LEVELS, MOST, UploadRate


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def paced(*, round_trip: float, every: Iterable[float], clock: Clock | None = None) -> UploadRate:
    """A pace that saw a round trip, and shards arrive with these seconds between them."""
    clock = clock or Clock()
    measured = UploadRate(clock=clock)
    measured.asked(round_trip * 2)
    measured.asked(round_trip)
    measured.sent(1_000_000)
    for seconds in every:
        clock.now += seconds
        measured.sent(1_000_000)
    return measured


@pytest.mark.parametrize(
    ("round_trip", "every", "wanted"),
    [
        (0.15, 0.55, FEWEST),  # 1.4 MB at 20 Mbit/s: the link is full
        (0.15, 0.17, 3),
        (0.15, 0.05, 7),
        (0.15, 0.01, MOST),
        (0.002, 0.02, FEWEST),  # on this machine
    ],
)
def test_as_many_as_fill_the_round_trip_twice(round_trip: float, every: float, wanted: int) -> None:
    assert paced(round_trip=round_trip, every=[every] * 7).at_a_time == wanted


def test_few_before_anything_is_known() -> None:
    assert UploadRate().at_a_time == FEWEST
    assert paced(round_trip=0.15, every=[0.01]).at_a_time == FEWEST


def test_only_the_last_ones_count() -> None:
    """A link that has become slow is no longer sent as much as when it was fast."""
    every = [0.01] * 20 + [1.0] * 8
    assert paced(round_trip=0.15, every=every).at_a_time == FEWEST


def test_the_shortest_round_trip_counts() -> None:
    measured = UploadRate(clock=Clock())
    for seconds in (3.0, 0.2, 5.0):
        measured.asked(seconds)
    for _ in range(4):
        measured.sent(1)
    assert measured.at_a_time == MOST  # all at once: only a round trip would bound it


@pytest.mark.parametrize(
    ("round_trip", "every", "apart"),
    [
        (0.15, [], 0.3),  # twice the round trip, before more is known
        (0.15, [0.55] * 4, 0.275),  # half of what one takes
        (0.15, [5.0] * 4, 0.3),
        (0.15, [0.01] * 4, 0.005),  # a fast link is not held up
    ],
)
def test_shards_do_not_start_together(round_trip: float, every: list[float], apart: float) -> None:
    clock = Clock()
    measured = paced(round_trip=round_trip, every=every, clock=clock)
    assert measured.next_start_in == 0
    measured.started()
    assert measured.next_start_in == pytest.approx(apart)
    clock.now += apart / 2
    assert measured.next_start_in == pytest.approx(apart / 2)
    clock.now += apart
    assert measured.next_start_in == 0


def test_nothing_waits_where_no_round_trip_is_known() -> None:
    measured = UploadRate(clock=Clock())
    measured.started()
    assert measured.next_start_in == 0


@pytest.mark.parametrize(
    ("waiting", "level"), [(0, LEVELS[0]), (1, LEVELS[1]), (BEHIND, LEVELS[2]), (99, LEVELS[2])]
)
def test_what_waits_is_made_smaller(waiting: int, level: int) -> None:
    assert UploadRate.level(waiting) == level
