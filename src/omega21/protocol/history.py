"""A run's history: aggregated results, feedback, events, memory."""

import base64
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from omega21.protocol.legacy import FeedbackStatistics
from omega21.protocol.messages import Reply
from omega21.protocol.metrics import Finite, MetricName
from omega21.protocol.names import RunName
from omega21.protocol.runs import RunSummary

MAX_POINTS = 2000
"""Maximum number of points of a series in one reply."""

MAX_FEEDBACK = 500
MAX_EVENTS = 500

EventKind = Literal[
    "started",
    "restarted",
    "restored",
    "environment",
    "micro_batch_size",
    "non_finite",
    "replay_differs",
    "executor_died",
    "diverged",
    "failed",
    "warning",
]
"""started: the server, by a person; restarted: by its supervisor, after a crash. restored: from an
uploaded checkpoint. environment: later steps were computed on another device or version.
micro_batch_size: batches are computed in micro-batches, since they do not fit. non_finite: the loss
or gradient of a step was NaN or infinite.
replay_differs: a step came out differently when it was computed again. diverged, failed: the run
stopped. warning: from the server's log, such as a full disk."""


class RunPosition(RunSummary):
    """A run's position, and counters that change whenever there is something new."""

    etag: str = Field(description="changes whenever there is something new to see of the run")
    evaluations: int = Field(description="number of the newest evaluation, 0 for none")
    feedback: int = Field(description="feedback received")
    events: int = Field(description="another number when there are other events")


class PointVectors(Reply):
    """A vector of the last step of each point, rounded to what a colour shows."""

    size: int = Field(ge=1, description="values for each point")
    scale: Finite = Field(description="largest absolute value, which is written as 127")
    values: str = Field(
        description="each a signed byte, to be multiplied by scale / 127; 0 where a step has no "
        "such vector; base64"
    )

    def array(self) -> NDArray[np.float32]:
        """Return the values [n, size]. Raises ValueError for text that is none."""
        values = np.frombuffer(base64.b64decode(self.values, validate=True), np.int8)
        scaled: NDArray[np.float32] = values.astype(np.float32) * np.float32(self.scale / 127)
        return scaled.reshape(-1, self.size)


class Points(Reply):
    """Aggregated results, as columns of equal length; one entry of each makes a point.

    A point covers the steps up to its own, from the multiple of the series' width before it.
    """

    step: list[int] = Field(description="the last step that the point covers")
    loss: list[float | None] = Field(description="mean; null where no step counted")
    loss_min: list[float | None]
    loss_max: list[float | None]
    samples: list[int]
    seconds: list[float] = Field(description="time that the steps took")
    ended_at: list[float] = Field(description="when the last of them ended, seconds since 1970")
    non_finite: list[int] = Field(description="steps that were not finite")
    metrics: dict[MetricName, list[float | None]] = Field(
        description="the task's own by name, means over the samples where they are finite"
    )
    vectors: dict[MetricName, PointVectors] | None = Field(
        default=None, description="the task's own by name, where they were asked for"
    )


class SeriesReply(RunPosition):
    """A run's aggregated results: a point for each `width` steps.

    Widths are powers of two; when the width doubles, all points have to be read again.
    """

    width: int = Field(description="steps that a point covers; the newest one may cover fewer")
    waiting_for: int = Field(default=0, description="needed shards that are not here")
    headline: list[MetricName] = Field(
        default_factory=list, description="the metrics that a short view shows"
    )
    labels: dict[MetricName, str] = Field(
        default_factory=dict,
        description="what metrics and vectors are called for people, where not by their name",
    )
    points: Points


class FeedbackRow(Reply):
    """Adjustments that a client made, and whether they were validated."""

    at: float = Field(description="seconds since 1970, by the server's clock")
    validated: bool
    adjustments: list[float]


class FeedbackHistory(Reply):
    """The newest feedback of a run, oldest first, and the totals of all feedback."""

    run: RunName
    statistics: FeedbackStatistics
    feedback: list[FeedbackRow]


class Event(Reply):
    """An event of the server or of one of its runs."""

    at: float | None = Field(description="seconds since 1970, by the server's clock; null: unknown")
    kind: EventKind
    run: RunName | None = Field(default=None, description="none where it is about the server")
    step: int | None = None
    detail: str = Field(default="", description="more about it, in English")
    count: int = Field(default=1, description="how often, where it came several times in a row")


class EventsReply(Reply):
    """The newest events, newest first."""

    events: list[Event]


class MemorySample(Reply):
    """Memory in use at a moment."""

    at: float = Field(description="seconds since 1970")
    process_mb: float | None = Field(description="of the server process; null where not known")
    device_mb: float = Field(description="of the device; 0 where there is no GPU")


class MemoryReply(Reply):
    """Memory in use since the server process started, at most 512 samples, ascending."""

    samples: list[MemorySample]
