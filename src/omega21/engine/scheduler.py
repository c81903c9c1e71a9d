"""What the worker thread does next. Pure: it asks runs what they can do, and is told the time.

1. What is due to be written goes first: a checkpoint, then the step records that wait.
2. A request (`predict`, `evaluate`, weights) goes between any two steps; two requests in a row
   only where nothing can be trained.
3. An inline batch whose plan is done goes before planned steps, whosever they are.
4. Runs with work take turns of a second, in the order in which they were made.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

TURN_SECONDS = 1.0
FLUSH_SECONDS = 0.5
MOST_PENDING = 20_000
"""Step records of a run that may wait for the disk; a run with more of them is not trained."""


class Candidate(Protocol):
    """What decides whether a run is next."""

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
    """What is to be done, and for which run; a flush is for all, a request knows its own."""

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
        """Return what to do now, None for nothing; `requested` says that requests wait."""
        return self._due(runs, now) or self._compute(runs, now, requested=requested)

    def idle_seconds(self, runs: Sequence[R], now: float) -> float | None:
        """Return for how long nothing will be due, None for ever."""
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
            # Not before: a turn that a request took would be over before it was used.
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
