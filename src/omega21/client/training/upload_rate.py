"""The number of concurrent uploads and their compression, from measurements of the link."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

FEWEST: Final = 2
"""Minimum number of concurrent uploads: one is received while another is written to disk."""

MOST: Final = 8

LEVELS: Final = (1, 3, 6)
"""zstd levels of a shard, for a link that waits for shards, one that keeps up, and one that is
behind: 256 samples of `neuronal` take 3, 4 and 11 ms, and have 436, 425 and 407 kB."""

BEHIND: Final = 8
"""With this number of pending shards, there is time to compress the next ones more."""

_REMEMBERED: Final = 8


class UploadRate:
    """Measures uploads.

    The number of concurrent uploads is twice what fills the link's round trip at the measured rate:
    too few reduce the rate, which the factor of two corrects step by step; more would only delay
    each of them. Uploads start at intervals: shards that start together share the link, end
    together, and leave it idle until the server has answered.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._round_trip = math.inf
        self._started = -math.inf
        self._ends: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)

    def asked(self, seconds: float) -> None:
        """Record the duration of a small request."""
        self._round_trip = min(self._round_trip, seconds)

    def started(self) -> None:
        """Record the start of an upload."""
        self._started = self._clock()

    def sent(self, size: int) -> None:
        """Record the end of an upload of this size."""
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
        """Number of concurrent uploads."""
        rate = self._shards_a_second
        if rate is None or math.isinf(self._round_trip):
            return FEWEST
        return min(MOST, max(FEWEST, 1 + math.ceil(2 * self._round_trip * rate)))

    @property
    def _shards_a_second(self) -> float | None:
        """Return the recent rate of shards; None until it is known."""
        if len(self._ends) < 3:
            return None
        seconds = self._ends[-1][0] - self._ends[0][0]
        return (len(self._ends) - 1) / max(seconds, 1e-3)

    @staticmethod
    def level(waiting: int) -> int:
        """Choose the compression level of the next shard, given the number of pending ones."""
        if waiting == 0:
            return LEVELS[0]
        return LEVELS[2] if waiting >= BEHIND else LEVELS[1]
