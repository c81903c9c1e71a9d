"""What to do about a failed request: decided here, without I/O, and acted on in `transport`.

Every call of this client is idempotent, so any of them may be sent again. Whether it helps is
said by the error's class: the same for a status of HTTP, a problem document and a broken link.
"""

import math
from dataclasses import dataclass
from typing import Final

from omega21.protocol.errors import (
    InternalError,
    OmegaError,
    StillRunning,
    TimedOut,
    Unavailable,
    UnknownProblem,
    Unreachable,
)

LONGEST_WAIT: Final = 60.0
"""Most seconds that are waited because the other side asked for it; then it is asked again."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Sending it again may help, after `at_least` seconds; `counts` towards giving up or not."""

    error: OmegaError
    at_least: float
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Fatal:
    """Sending it again will not help."""

    error: OmegaError


def judge(error: OmegaError, *, keyed: bool = True) -> Retry | Fatal:
    """Turn a failure of a call, with a key or without, into what is to be done about it."""
    at_least = asked_wait(error.retry_after)
    if isinstance(error, StillRunning):
        # The server lives and works on this very request: waiting for it is no failed attempt.
        # It knows a request by its key, so one without is not worked on.
        return Retry(error, at_least or 1.0, counts=not keyed)
    if isinstance(error, Unreachable | TimedOut | Unavailable | InternalError):
        return Retry(error, at_least)
    if isinstance(error, UnknownProblem) and error.retry_after is not None:
        return Retry(error, at_least)
    return Fatal(error)


def asked_wait(seconds: float | None) -> float:
    """Return the wait that was asked for, as far as it is one: a number, not below 0, bounded."""
    if seconds is None or math.isnan(seconds):
        return 0.0
    return min(max(0.0, seconds), LONGEST_WAIT)


def is_link_failure(error: OmegaError) -> bool:
    """Whether the server was not there to decide: unreachable is not refused."""
    return isinstance(error, Unreachable | TimedOut | Unavailable)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryRules:
    """How often and how long to try, with exponential backoff and jitter.

    A call is tried `attempts` times. With `patience`, link failures do not use attempts up: they
    are tried again until the link has been down for that many seconds.
    """

    attempts: int = 5
    patience: float | None = None
    in_all: float = LONGEST_WAIT
    """Most seconds that a call waits between its attempts, together."""
    first_delay: float = 0.5
    longest_delay: float = 15.0

    def delay(self, failures: int, *, chance: float, at_least: float) -> float:
        """Seconds to wait after the n-th failure in a row; `chance` in [0, 1) is the jitter."""
        doubled = min(self.first_delay * 2.0 ** min(failures - 1, 30), self.longest_delay)
        return max(at_least, doubled * (0.5 + chance / 2))

    def within_patience(
        self, delay: float, retry: Retry, *, down_for: float, waited: float
    ) -> float:
        """Return a wait that ends when the patience does, after `waited` seconds of others."""
        if not retry.counts:
            return delay
        if self.patience is not None and is_link_failure(retry.error):
            return max(0.0, min(delay, self.patience - down_for))
        return max(0.0, min(delay, self.in_all - waited))

    def gives_up(self, retry: Retry, failures: int, *, down_for: float) -> bool:
        """Whether to raise the error after this many failures of a call."""
        if self.patience is not None and is_link_failure(retry.error):
            return down_for >= self.patience
        return retry.counts and failures >= self.attempts
