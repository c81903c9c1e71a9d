"""What a watcher reads of a run's past: results thinned out, feedback, events, memory."""

from typing import Literal

from pydantic import Field

from omega21.protocol.legacy import FeedbackStatistics
from omega21.protocol.messages import Reply
from omega21.protocol.names import RunName
from omega21.protocol.runs import RunSummary

MAX_POINTS = 2000
"""Most points of a series in one reply."""

MAX_FEEDBACK = 500
MAX_EVENTS = 500

EventKind = Literal[
    "started",
    "restarted",
    "restored",
    "conditions",
    "parts",
    "refused",
    "replay_differs",
    "diverged",
    "failed",
    "warning",
]
"""started: the server, by a person; restarted: by its supervisor, after a death. restored: from a
checkpoint that was sent. conditions: steps from here on were computed on another device or version.
parts: batches are computed in parts, since they do not fit. refused: a step was not finite.
replay_differs: a step came out differently when it was computed again. diverged, failed: the run
stopped. warning: from the server's log, such as a full disk."""


class RunPosition(RunSummary):
    """A run's position, and numbers that change whenever there is more of something."""

    mark: str = Field(description="another one whenever there is something new to see of the run")
    evaluations: int = Field(description="number of the newest evaluation, 0 for none")
    feedback: int = Field(description="feedback received")
    events: int = Field(description="another number when there are other events")


class Points(Reply):
    """Results thinned out, as columns of equal length; one entry of each makes a point.

    A point covers the steps up to its own, from the multiple of the series' width before it.
    """

    step: list[int] = Field(description="the last step that the point covers")
    loss: list[float | None] = Field(description="mean; null where no step counted")
    loss_min: list[float | None]
    loss_max: list[float | None]
    anomaly_prob: list[float | None] = Field(description="mean over the samples")
    samples: list[int]
    seconds: list[float] = Field(description="time that the steps took")
    ended_at: list[float] = Field(description="when the last of them ended, seconds since 1970")
    refused: list[int] = Field(description="steps that were not finite")
    dendrites: str | None = Field(
        default=None,
        description="of the step itself, 16 values for each point, each a signed byte that is to "
        "be divided by 127; base64",
    )
    coherence: str | None = Field(default=None, description="likewise, 64 values for each point")


class SeriesReply(RunPosition):
    """A run's results thinned out: a point for each `width` steps.

    Widths are powers of two; when a run has outgrown one, all of its points are to be read again.
    """

    width: int = Field(description="steps that a point covers; the newest one may cover fewer")
    waiting_for: int = Field(default=0, description="needed shards that are not here")
    points: Points


class FeedbackRow(Reply):
    """What a client did with the dendrites, and whether it helped."""

    at: float = Field(description="seconds since 1970, by the server's clock")
    validated: bool
    adjustments: list[float]


class FeedbackHistory(Reply):
    """The newest feedback of a run, oldest first, and what all of it comes to."""

    run: RunName
    statistics: FeedbackStatistics
    feedback: list[FeedbackRow]


class Event(Reply):
    """Something that happened to the server, or to one of its runs."""

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
