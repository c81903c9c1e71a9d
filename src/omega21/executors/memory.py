"""Memory in use over the life of a process, sampled during training."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from omega21.protocol.history import MemorySample

MOST_SAMPLES: Final = 512
FIRST_INTERVAL: Final = 1.0


class MemoryHistory:
    """Samples of memory, at most 512 of them.

    When there are more, every second one is dropped and the interval doubles, so that they always
    cover the whole life of the process. Thread-safe; taking a sample costs some microseconds.
    """

    def __init__(
        self,
        device_mb: Callable[[], float],
        process_bytes: Callable[[], int | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._device_mb = device_mb
        self._process_bytes = process_bytes
        self._clock = clock
        self._interval = FIRST_INTERVAL
        self._samples: list[MemorySample] = []
        self._guard = threading.Lock()

    def look(self, _run: str = "", _step: int | None = None) -> None:
        """Take a sample if the last one is old enough.

        Cheap enough to call at every change of a run.
        """
        now = self._clock()
        with self._guard:
            if self._samples and 0 <= now - self._samples[-1].at < self._interval:
                return
            self._samples.append(self._sample(now))
            if len(self._samples) > MOST_SAMPLES:
                self._samples = self._samples[::2]
                self._interval *= 2

    def samples(self) -> list[MemorySample]:
        """Return the samples, oldest first, with a current one."""
        now = self._sample(self._clock())
        with self._guard:
            return [*self._samples[-MOST_SAMPLES + 1 :], now]

    def _sample(self, now: float) -> MemorySample:
        size = self._process_bytes()
        process_mb = None if size is None else size / 1e6
        return MemorySample(at=now, process_mb=process_mb, device_mb=self._device_mb())


def process_bytes(pid: int | None = None) -> int | None:
    """Return the resident memory of this process, or of another; None if it is not known."""
    if sys.platform != "linux":
        return None
    statm = Path("/proc", "self" if pid is None else str(pid), "statm")
    try:
        pages = int(statm.read_text(encoding="ascii").split()[1])
    except OSError:  # it has ended meanwhile
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
