"""The progress of a training from its events: values and texts, without a terminal."""

from collections import deque
from math import exp
from typing import Final

from omega21.cli.metric_text import first_metric, metric_name, metric_value, shown_metrics
from omega21.cli.ui.sparkline import Trend
from omega21.cli.ui.states import state_label
from omega21.client.events import (
    Connected,
    Done,
    Evaluated,
    Event,
    LinkLost,
    LinkRestored,
    RunReady,
    ServerSeen,
    StateChanged,
    StepsDone,
)
from omega21.client.http.usage import Traffic
from omega21.language import _
from omega21.language.figures import clock, count, duration, number, size
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.legacy import Status
from omega21.protocol.runs import RunSummary
from omega21.protocol.steps import StepRecord

_RATE_STEPS: Final = 20
"""Newest steps that the rate is taken over."""

_MEMORY_SECONDS: Final = 60.0
"""Time constant of the mean step time: what is older counts for a third and less."""


class StepTime:
    """Seconds per step by the server's clock, as an exponential moving average.

    Not a window, so that the remaining time changes gradually. Pauses are not counted.
    """

    def __init__(self) -> None:
        self._steps = 0.0
        self._seconds = 0.0
        self._ended_at: float | None = None

    def add(self, row: StepRecord) -> None:
        """Add the next step record."""
        before = row.ended_at - row.seconds if self._ended_at is None else self._ended_at
        elapsed = row.ended_at - before
        self._ended_at = row.ended_at
        if not 0 <= elapsed <= max(_MEMORY_SECONDS, 2 * row.seconds):
            elapsed = row.seconds
        kept = exp(-elapsed / max(_MEMORY_SECONDS, 10 * row.seconds))
        self._steps = kept * self._steps + 1
        self._seconds = kept * self._seconds + elapsed

    @property
    def seconds(self) -> float | None:
        """Seconds per step; None while unknown."""
        return self._seconds / self._steps if self._steps and self._seconds > 0 else None


class TrainingProgress:
    """The state of a training after the events so far; what is unknown is zero, None or empty."""

    def __init__(self) -> None:
        self.steps = 0
        self.steps_done = 0
        self.is_reached = True
        self.losses = Trend()
        self.evaluated = Trend()
        self.task = ""
        self.evaluation: Evaluation | None = None
        self._first_step = 1
        self._rows: deque[StepRecord] = deque(maxlen=_RATE_STEPS)
        self._step_time = StepTime()
        self._first_loss: float | None = None
        self._position: RunSummary | None = None
        self._status: Status | None = None
        self._address = ""
        self._lost = ""
        self._is_stored = False
        self._is_done = False

    def update(self, event: Event) -> None:
        """Update the state from one event."""
        match event:
            case Connected(address):
                self._address = address
            case RunReady():
                self.task = event.task
                self._is_stored = event.how == "stored"
                self.steps = event.last_step - event.first_step + 1
                self._first_step = event.first_step
                self._update_position(event.position)
            case StepsDone(rows, position):
                self._add_steps(rows)
                self._update_position(position)
            case StateChanged(position):
                self._update_position(position)
            case Evaluated(evaluation):
                self._add_evaluation(evaluation)
            case ServerSeen(status):
                self._status = status
            case LinkLost() | LinkRestored():
                self._update_link(event)
            case Done(state=state):
                self._update_position(state)
                self._is_done = True

    def headline(self, event: Connected | RunReady) -> str:
        """Describe in one line the server, or what is trained."""
        if isinstance(event, Connected):
            info = event.info
            return _(
                "connected to {address}: omega21 {version}, {millions} million parameters"
            ).format(
                address=event.address,
                version=info.version,
                millions=number(info.arquitectura.parametros_totales / 1e6, 1),
            )
        segment = event.segment
        return _(
            "run {run}, {how}: {samples} samples ({kind}) in {steps} steps of {batch_size}"
        ).format(
            run=event.run,
            how=_origin(event.how),
            samples=count(segment.samples),
            kind=segment.source.kind,
            steps=count(segment.steps),
            batch_size=count(segment.batch_size),
        )

    def metrics_text(self) -> str:
        """Return the newest loss and metrics, and the rate."""
        if not self._rows:
            return ""
        newest = self._rows[-1]
        texts = [self._loss_text(newest)]
        texts += [
            f"{metric_name(self.task, name)} {metric_value(name, newest.metrics[name], 3)}"
            for name in shown_metrics(self.task, newest.metrics)
        ]
        texts.append(_("{rate} samples/s").format(rate=number(self._rate(), 0)))
        return "  ".join(texts)

    def evaluation_text(self) -> str:
        """Return the newest evaluation; empty without one."""
        found = self.evaluation
        if found is None:
            return ""
        name, value = first_metric(self.task, found)
        return _("{metric} {value} at step {step}, on {samples} held-out samples").format(
            metric=metric_name(self.task, name),
            value=metric_value(name, value),
            step=count(found.step),
            samples=count(found.samples),
        )

    def machine_text(self) -> str:
        """Return the device, its memory and the durable step, where they are known."""
        texts = []
        if self._status is not None:
            statistics = self._status.estadisticas
            memory = _memory(self._status)
            texts.append(
                _("device {device}, {memory} in use").format(
                    device=statistics.dispositivo, memory=size(memory)
                )
                if memory
                else _("device {device}").format(device=statistics.dispositivo)
            )
            if self._status.restarts:
                texts.append(_("restarts {count}").format(count=count(self._status.restarts)))
        if self._position is not None:
            texts.append(_("durable step {step}").format(step=count(self._position.durable_step)))
        return "  ".join(texts)

    def time_left_text(self) -> str:
        """Return the remaining time; empty while unknown."""
        left = self.seconds_left
        return _("{time} left").format(time=duration(left)) if left else ""

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the remaining steps take; None while unknown."""
        seconds = self._step_time.seconds
        return None if seconds is None else (self.steps - self.steps_done) * seconds

    def state_text(self) -> str:
        """Return the state, where the metrics do not show it."""
        if self._rows and self.steps_done == self.steps:
            is_over = self._is_done or self._is_stored
            return _("done") if is_over else _("scoring held-out samples")
        if self._position is None or (self._rows and self._position.state == "training"):
            return ""
        return state_label(self._position.state)

    def link_text(self) -> str:
        """Describe the connection to the server."""
        if not self.is_reached:
            return self._lost
        if self._is_stored:
            return _("from the run folder, without its server")
        if not self._address:
            return ""
        return _("connected to {address}").format(address=self._address)

    def _loss_text(self, newest: StepRecord) -> str:
        loss, first = number(newest.loss), self._first_loss
        if first is None:
            return _("loss {loss}").format(loss=loss)
        return _("loss {loss} (first {first})").format(loss=loss, first=number(first))

    def _add_steps(self, rows: tuple[StepRecord, ...]) -> None:
        for row in rows:
            if row.step < self._first_step:
                continue  # of an earlier segment, replayed
            if row.step == self._first_step:
                self._first_loss = row.loss
            if not self._rows or row.step > self._rows[-1].step:
                if row.loss is not None:
                    self.losses.add(row.loss)
                self._rows.append(row)
                self._step_time.add(row)

    def _add_evaluation(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        _name, value = first_metric(self.task, evaluation)
        if value is not None:
            self.evaluated.add(value)

    def _update_link(self, event: LinkLost | LinkRestored) -> None:
        self.is_reached = isinstance(event, LinkRestored)
        if isinstance(event, LinkLost):
            self._lost = _("unreachable since {time}, trying again: {error}").format(
                time=clock(event.since), error=event.error
            )

    def _update_position(self, position: RunSummary) -> None:
        self._position = position
        self.steps_done = min(max(position.step - self._first_step + 1, 0), self.steps)

    def _seconds(self) -> float:
        """Return the duration of the newest steps by the server's clock."""
        first, last = self._rows[0], self._rows[-1]
        return last.ended_at - (first.ended_at - first.seconds)

    def _rate(self) -> float:
        """Return the samples per second over the newest steps."""
        elapsed = self._seconds()
        return sum(row.samples for row in self._rows) / elapsed if elapsed > 0 else 0.0


def traffic_text(traffic: Traffic) -> str:
    """Describe the traffic so far."""
    return _("{sent} up, {received} down, {requests} requests").format(
        sent=size(traffic.bytes_sent),
        received=size(traffic.bytes_received),
        requests=count(traffic.requests),
    )


def _memory(status: Status) -> float:
    """Return the bytes in use on the device; without a GPU, those of the server process."""
    if status.estadisticas.gpu_memoria_mb:
        return status.estadisticas.gpu_memoria_mb * 1e6
    return (status.machine and status.machine.process_memory) or 0


def _origin(how: str) -> str:
    return {
        "created": _("made"),
        "continued": _("continued"),
        "finishing": _("finishing the last request"),
        "watched": _("on the server"),
        "stored": _("in its folder"),
    }[how]
