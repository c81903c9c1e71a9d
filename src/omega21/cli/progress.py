"""How far a training is, as its events tell: figures and texts, without a terminal."""

import time
from collections import deque
from typing import Final

from omega21.client.events import (
    Connected,
    Done,
    Event,
    LinkLost,
    LinkRestored,
    RunReady,
    StateChanged,
    StepsDone,
)
from omega21.protocol.runs import RunSummary
from omega21.protocol.steps import StepRow

_RATE_STEPS: Final = 20
"""Newest steps that the rate is taken over."""

_STATES: Final = {
    "idle": "done",
    "training": "training",
    "waiting": "waiting for samples",
    "paused": "paused",
    "diverged": "diverged",
    "failed": "failed",
}
_HOW: Final = {
    "created": "made",
    "continued": "continued",
    "finishing": "finishing what was begun",
    "adopted": "taken over from the server",
    "restored": "put back on the server",
}


class TrainingProgress:
    """Takes in events, in order; what it has not heard of yet is zero or empty."""

    def __init__(self) -> None:
        self.steps = 0
        self.steps_done = 0
        self.is_reached = True
        self._first_step = 1
        self._rows: deque[StepRow] = deque(maxlen=_RATE_STEPS)
        self._first_loss: float | None = None
        self._state = ""
        self._address = ""
        self._lost = ""
        self._is_done = False

    def take(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case Connected(address):
                self._address = address
            case RunReady():
                self.steps = event.last_step - event.first_step + 1
                self._first_step = event.first_step
                self._stand(event.position)
            case StepsDone(rows, position):
                self._take_rows(rows)
                self._stand(position)
            case StateChanged(position):
                self._stand(position)
            case LinkLost(since, error):
                self.is_reached = False
                self._lost = f"unreachable since {_clock(since)}, trying again: {error}"
            case LinkRestored():
                self.is_reached = True
            case Done():
                self._is_done = True

    def headline(self, event: Connected | RunReady) -> str:
        """Say in one line who answered, or what is trained."""
        if isinstance(event, Connected):
            info = event.info
            millions = info.arquitectura.parametros_totales / 1e6
            return (
                f"connected to {event.address}: omega21 {info.version}, {info.nombre}, "
                f"{millions:.1f} million parameters"
            )
        segment = event.segment
        return (
            f"run {event.run}, {_HOW[event.how]}: {segment.samples} samples ({segment.source.kind})"
            f" in {segment.steps} steps of {segment.batch_size}"
        )

    def figures_text(self) -> str:
        """Say the newest loss, anomaly probability and rate."""
        if not self._rows:
            return ""
        newest = self._rows[-1]
        first = "" if self._first_loss is None else f" (first {number(self._first_loss)})"
        probability = number(newest.anomaly_prob, 3)
        return (
            f"loss {number(newest.loss)}{first}  anomaly probability {probability}  "
            f"{self._rate():.0f} samples/s"
        )

    def state_text(self) -> str:
        """Say what goes on now, where the figures do not."""
        if self._rows and self.steps_done == self.steps:
            return "" if self._is_done else "scoring held-out samples"
        if self._rows and self._state == "training":
            return ""
        return _STATES.get(self._state, "")

    def link_text(self) -> str:
        """Say whether the server is reached."""
        if not self.is_reached:
            return self._lost
        return f"connected to {self._address}" if self._address else "connecting"

    def _take_rows(self, rows: tuple[StepRow, ...]) -> None:
        for row in rows:
            if row.step < self._first_step:
                continue  # of an earlier segment, replayed
            if row.step == self._first_step:
                self._first_loss = row.loss
            self._rows.append(row)

    def _stand(self, position: RunSummary) -> None:
        self._state = position.state
        self.steps_done = min(max(position.step - self._first_step + 1, 0), self.steps)

    def _rate(self) -> float:
        """Samples per second over the newest steps, by the server's clock."""
        first, last = self._rows[0], self._rows[-1]
        elapsed = last.ended_at - (first.ended_at - first.seconds)
        return sum(row.samples for row in self._rows) / elapsed if elapsed > 0 else 0.0


def number(value: float | None, digits: int = 4) -> str:
    """Write a figure; one that does not exist is a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
