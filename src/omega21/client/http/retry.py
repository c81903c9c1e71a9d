"""The retry policy: decides without I/O what to do about a failed request; `transport` does it.

Every call of this client is idempotent, so each may be sent again. Whether a retry helps depends on
the error's class, for an HTTP status, a problem document and a broken link alike.
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
"""Maximum wait that the other side can request, in seconds; then the request is retried."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry may help, after `at_least` seconds; `counts` says whether it uses up an attempt."""

    error: OmegaError
    at_least: float
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Fatal:
    """A retry does not help."""

    error: OmegaError


def judge(error: OmegaError, *, keyed: bool = True) -> Retry | Fatal:
    """Decide what to do about a failed call, with or without an Idempotency-Key."""
    at_least = asked_wait(error.retry_after)
    if isinstance(error, StillRunning):
        # The server is still processing this request: waiting for it is not a failed attempt.
        # It identifies a request by its key, so this needs one.
        return Retry(error, at_least or 1.0, counts=not keyed)
    if isinstance(error, Unreachable | TimedOut | Unavailable | InternalError):
        return Retry(error, at_least)
    if isinstance(error, UnknownProblem) and error.retry_after is not None:
        return Retry(error, at_least)
    return Fatal(error)


def asked_wait(seconds: float | None) -> float:
    """Return the requested wait if it is valid: a finite number, not negative, limited."""
    if seconds is None or math.isnan(seconds):
        return 0.0
    return min(max(0.0, seconds), LONGEST_WAIT)


def is_link_failure(error: OmegaError) -> bool:
    """Whether the server was not reached at all, as opposed to a refusal."""
    return isinstance(error, Unreachable | TimedOut | Unavailable)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryRules:
    """Number and duration of retries, with exponential backoff and jitter.

    A call is tried `attempts` times. With `patience`, link failures do not use up attempts: they
    are retried until the link has been down for that many seconds.
    """

    attempts: int = 5
    patience: float | None = None
    in_all: float = LONGEST_WAIT
    """Maximum total wait of a call between its attempts, in seconds."""
    first_delay: float = 0.5
    longest_delay: float = 15.0

    def delay(self, failures: int, *, chance: float, at_least: float) -> float:
        """Seconds to wait after the n-th failure in a row; `chance` in [0, 1) is the jitter."""
        doubled = min(self.first_delay * 2.0 ** min(failures - 1, 30), self.longest_delay)
        return max(at_least, doubled * (0.5 + chance / 2))

    def within_patience(
        self, delay: float, retry: Retry, *, down_for: float, waited: float
    ) -> float:
        """Limit a wait to the remaining patience, after `waited` seconds."""
        if not retry.counts:
            return delay
        if self.patience is not None and is_link_failure(retry.error):
            return max(0.0, min(delay, self.patience - down_for))
        return max(0.0, min(delay, self.in_all - waited))

    def gives_up(self, retry: Retry, failures: int, *, down_for: float) -> bool:
        """Whether to give up after this number of failures."""
        if self.patience is not None and is_link_failure(retry.error):
            return down_for >= self.patience
        return retry.counts and failures >= self.attempts
