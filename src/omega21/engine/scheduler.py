"""Chooses the next work of the worker thread, without side effects and without a clock.

1. Due writes come first: a checkpoint, then pending step records.
2. A request (`predict`, `evaluate`, weights) comes between any two steps; two requests in a row
   only if nothing can be trained.
3. An inline batch of a finished plan comes before planned steps of any run.
4. Runs with work take turns of a second, in the order of their creation.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

TURN_SECONDS = 1.0
FLUSH_SECONDS = 0.5
MOST_PENDING = 20_000
"""Maximum number of pending step records; a run with more is not trained."""


class Candidate(Protocol):
    """The properties of a run that the scheduler uses."""

    @property
    def pending(self) -> Sized:
        """The step records that wait to be written."""

    def can_train(self) -> bool:
        """Whether the run's next planned step can be computed."""

    def can_train_inline(self) -> bool:
        """Whether an inline batch of the run can be trained."""


R = TypeVar("R", bound=Candidate)


@dataclass(frozen=True)
class Work(Generic[R]):
    """The kind of work and its run; a flush is for all runs, a request has its own."""

    kind: Literal["checkpoint", "flush", "request", "inline", "step"]
    run: R | None = None


class Scheduler(Generic[R]):
    """Chooses work. `checkpoint_due` tells when a run's next checkpoint is due, None for never."""

    def __init__(self, checkpoint_due: Callable[[R], float | None]) -> None:
        self._checkpoint_due = checkpoint_due
        self._flush_due = 0.0
        self._request_was_last = False
        self._turn: R | None = None
        self._turn_ends = 0.0

    def choose(self, runs: Sequence[R], now: float, *, requested: bool) -> Work[R] | None:
        """Return the next work, None for nothing; `requested` says whether requests are pending."""
        return self._due(runs, now) or self._compute(runs, now, requested=requested)

    def idle_seconds(self, runs: Sequence[R], now: float) -> float | None:
        """Return the time until something is due, None for never."""
        dues = [due for run in runs if (due := self._checkpoint_due(run)) is not None]
        if any(run.pending for run in runs):
            dues.append(self._flush_due)
        return max(0.0, min(dues) - now) if dues else None

    def _due(self, runs: Sequence[R], now: float) -> Work[R] | None:
        for run in runs:
            due = self._checkpoint_due(run)
            if due is not None and due <= now:
                return Work("checkpoint", run)
        if now >= self._flush_due and any(run.pending for run in runs):
            self._flush_due = now + FLUSH_SECONDS
            return Work("flush")
        return None

    def _compute(self, runs: Sequence[R], now: float, *, requested: bool) -> Work[R] | None:
        work = self._train(runs, now)
        if requested and (work is None or not self._request_was_last):
            work = Work("request")
        self._request_was_last = work is not None and work.kind == "request"
        if work is not None and work.kind == "step" and not self._is_in_turn(work.run, now):
            # Not earlier: a turn would otherwise be used up by a request.
            self._turn, self._turn_ends = work.run, now + TURN_SECONDS
        return work

    def _train(self, runs: Sequence[R], now: float) -> Work[R] | None:
        for run in runs:
            if run.can_train_inline():
                return Work("inline", run)
        start = 0
        if self._turn is not None and self._turn in runs:
            start = runs.index(self._turn) + (not self._is_in_turn(self._turn, now))
        for run in (*runs[start:], *runs[:start]):
            if len(run.pending) < MOST_PENDING and run.can_train():
                return Work("step", run)
        return None

    def _is_in_turn(self, run: R | None, now: float) -> bool:
        return run is self._turn and now < self._turn_ends
