"""How shards go up, by what was measured of the link: how many at a time, and how compressed."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

FEWEST: Final = 2
"""Shards on their way at a time: one is received while the next is written to the server's disk."""

MOST: Final = 8

LEVELS: Final = (1, 3, 6)
"""zstd levels of a shard, for a link that waits for shards, one that keeps up, and one that is
behind: 256 samples of `neuronal` take 3, 4 and 11 ms, and have 436, 425 and 407 kB."""

BEHIND: Final = 8
"""With so many made shards waiting, there is time to make the next ones smaller."""

_REMEMBERED: Final = 8


class UploadRate:
    """Measures uploads.

    As many shards are on their way as it takes to fill the link's round trip at the rate seen,
    twice over: too few slow the rate down, which the doubling makes up for step by step; more than
    that would only arrive later each, the first of them too. They start some time apart: shards
    that share a link from the same moment on end at the same moment too, and then, until the
    server has answered, nothing is on its way.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._round_trip = math.inf
        self._started = -math.inf
        self._ends: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)

    def asked(self, seconds: float) -> None:
        """Note how long a small request took."""
        self._round_trip = min(self._round_trip, seconds)

    def started(self) -> None:
        """Note that a shard starts, now."""
        self._started = self._clock()

    def sent(self, size: int) -> None:
        """Note that a shard of so many bytes has arrived, now."""
        self._ends.append((self._clock(), size))

    @property
    def next_start_in(self) -> float:
        """Seconds until the next shard should start."""
        if math.isinf(self._round_trip):
            return 0.0
        apart = 2 * self._round_trip
        if (rate := self._shards_a_second) is not None:
            apart = min(apart, 0.5 / rate)
        return max(0.0, self._started + apart - self._clock())

    @property
    def at_a_time(self) -> int:
        """Shards to have on their way."""
        rate = self._shards_a_second
        if rate is None or math.isinf(self._round_trip):
            return FEWEST
        return min(MOST, max(FEWEST, 1 + math.ceil(2 * self._round_trip * rate)))

    @property
    def _shards_a_second(self) -> float | None:
        """How fast shards arrived lately; None before it can be said."""
        if len(self._ends) < 3:
            return None
        seconds = self._ends[-1][0] - self._ends[0][0]
        return (len(self._ends) - 1) / max(seconds, 1e-3)

    @staticmethod
    def level(waiting: int) -> int:
        """Choose the level for the next shard, with so many made and not sent."""
        if waiting == 0:
            return LEVELS[0]
        return LEVELS[2] if waiting >= BEHIND else LEVELS[1]
