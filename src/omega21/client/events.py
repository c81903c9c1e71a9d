"""The events of a training, which `train` yields, for people and programs."""

import re
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

from omega21.client.store.summary import Summary
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.legacy import Info, Status
from omega21.protocol.plan import Segment
from omega21.protocol.runs import RunState, RunSummary
from omega21.protocol.steps import StepRecord

How = Literal["created", "continued", "finishing", "watched", "stored"]
"""How the run was met: made new; its plan grew; its unfinished segment is being finished; looked at
on the server while another program trains it; looked at in its folder."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A server answered, with a compatible protocol version."""

    address: str
    info: Info


@dataclass(frozen=True, slots=True)
class RunReady:
    """The run is on the server and the segment to train is in the plan.

    `first_step` to `last_step` are the segment's steps; `position` is the server's. `task` is the
    kind of the run's task.
    """

    how: How
    run: str
    run_id: str
    number: int
    segment: Segment
    first_step: int
    last_step: int
    position: RunSummary
    task: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for the user, in one line."""

    text: str


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """The number of encoded samples, of those on the server, and of all in the segment."""

    generated: int
    uploaded: int
    samples: int
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class StepsDone:
    """New results of the segment, ascending and on disk, and the run's position."""

    rows: tuple[StepRecord, ...]
    position: RunSummary
    waiting_for: int = 0


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The run's state has changed: training, waiting, paused."""

    position: RunSummary


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Held-out samples of segment `segment` were scored at this time; on disk."""

    evaluation: Evaluation
    segment: int
    ended_at: float


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """The server's status: device, memory, number of restarts."""

    status: Status


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The server is unreachable since this time (seconds since 1970) and is being retried."""

    since: float
    error: str


@dataclass(frozen=True, slots=True)
class LinkRestored:
    """The server answers again."""


@dataclass(frozen=True, slots=True)
class Done:
    """The segment is trained and evaluated: its summary, and the run's last state.

    `evaluation` is None if no samples were held out.
    """

    summary: Summary
    state: RunState
    evaluation: Evaluation | None


Event: TypeAlias = (
    Connected
    | RunReady
    | Notice
    | UploadProgress
    | StepsDone
    | StateChanged
    | Evaluated
    | ServerSeen
    | LinkLost
    | LinkRestored
    | Done
)

_NAME = re.compile(r"(?<!^)(?=[A-Z])")


def as_dict(event: Event) -> dict[str, Any]:
    """Return an event as a JSON object: its name in snake_case as `event`, and its fields.

    A step record is without its default values, a segment without its shards.
    """
    name = _NAME.sub("_", type(event).__name__).lower()
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    if isinstance(event, RunReady):
        values["segment"] = event.segment.numbers()
    written: dict[str, Any] = _ANYTHING.dump_python(
        values, mode="json", serialize_as_any=True, exclude_defaults=True
    )
    return {"event": name, **written}


_ANYTHING: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
