"""How many shards go up at a time, and how hard they are compressed."""

import itertools
from collections.abc import Iterable

import pytest

from omega21.client.pace import BEHIND, FEWEST, LEVELS, MOST, Pace


def paced(monkeypatch: pytest.MonkeyPatch, *, round_trip: float, every: Iterable[float]) -> Pace:
    """A pace that saw a round trip, and shards arrive with these seconds between them."""
    measured = Pace()
    measured.asked(round_trip * 2)
    measured.asked(round_trip)
    ends = iter([0.0, *itertools.accumulate(every)])
    monkeypatch.setattr("omega21.client.pace.time.monotonic", lambda: next(ends))
    for _ in range(len(list(every)) + 1):
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
def test_as_many_as_fill_the_round_trip_twice(
    monkeypatch: pytest.MonkeyPatch, round_trip: float, every: float, wanted: int
) -> None:
    assert paced(monkeypatch, round_trip=round_trip, every=[every] * 7).at_a_time == wanted


def test_few_before_anything_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Pace().at_a_time == FEWEST
    assert paced(monkeypatch, round_trip=0.15, every=[0.01]).at_a_time == FEWEST


def test_only_the_last_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that has become slow is no longer sent as much as when it was fast."""
    every = [0.01] * 20 + [1.0] * 8
    assert paced(monkeypatch, round_trip=0.15, every=every).at_a_time == FEWEST


def test_the_shortest_round_trip_counts() -> None:
    measured = Pace()
    for seconds in (3.0, 0.2, 5.0):
        measured.asked(seconds)
    for _ in range(4):
        measured.sent(1)
    assert measured.at_a_time == MOST  # all at once: only a round trip would bound it


@pytest.mark.parametrize(
    ("waiting", "level"), [(0, LEVELS[0]), (1, LEVELS[1]), (BEHIND, LEVELS[2]), (99, LEVELS[2])]
)
def test_what_waits_is_made_smaller(waiting: int, level: int) -> None:
    assert Pace.level(waiting) == level
