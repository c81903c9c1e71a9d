"""Limits the log lines of unauthenticated requests: a few lines, then a count of the others.

Anybody who reaches the port can send requests. A line for each would rotate the owner's lines out
of the log, and fill the disk if standard error is stored. So lines of unauthenticated requests are
logged a few times and counted after that. `Connection` marks what it reads as unauthenticated,
`AccessControl` marks the owner's requests as authenticated.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from omega21 import logs

BURST: Final = 8
"""Number of lines in a burst; as many again of warnings and errors."""

SECONDS_EACH: Final = 300.0
"""Time for each further line after the burst, and between two counts of the others."""

logger = logging.getLogger(__name__)
_PASSES: Final = "omega21_passes"


def mark_unauthenticated(*, is_one: bool) -> None:
    """Record in this task's log context whether its request is unauthenticated."""
    logs.remember(unauthenticated=is_one)


def is_unauthenticated() -> bool:
    """Whether the request at work is unauthenticated."""
    return logs.current().get("unauthenticated") is True


@dataclass
class UnauthenticatedLogFilter:
    """A filter of log records, shared by all handlers. `clock` is in seconds. Thread-safe."""

    clock: Callable[[], float] = time.monotonic
    _paid_off_at: dict[bool, float] = field(default_factory=dict)  # by whether it is a warning
    _untold: Counter[str] = field(default_factory=Counter)
    _untold_since: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; the same for each handler."""
        passes: bool | None = getattr(record, _PASSES, None)
        if passes is None:
            passes = not is_unauthenticated() or self._take(record)
            setattr(record, _PASSES, passes)
        return passes

    def tell(self, *, at_last: bool = False) -> None:
        """Log the count of suppressed records, if it is due; with `at_last` in any case.

        Called about once a second, and at the end.
        """
        with self._lock:
            is_due = at_last or self.clock() >= self._untold_since + SECONDS_EACH
            if not self._untold or not is_due:
                return
            counts, self._untold = self._untold, Counter()
        kinds = ", ".join(f"{kind}: {count}" for kind, count in counts.most_common())
        logger.info("%d more requests without the token (%s)", counts.total(), kinds)

    def _take(self, record: logging.LogRecord) -> bool:
        is_warning = record.levelno >= logging.WARNING
        now = self.clock()
        with self._lock:
            paid_off_at = max(now, self._paid_off_at.get(is_warning, now)) + SECONDS_EACH
            if paid_off_at <= now + BURST * SECONDS_EACH:
                self._paid_off_at[is_warning] = paid_off_at
                return True
            if not self._untold:
                self._untold_since = now
            self._untold[str(getattr(record, "status", record.levelname.lower()))] += 1
        return False


unauthenticated_log_filter: Final = UnauthenticatedLogFilter()
"""The filter of this process."""
