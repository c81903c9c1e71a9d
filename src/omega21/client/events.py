"""What happens while a run is trained, as values: what `train` yields, for people and programs."""

import re
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

from omega21.client.store.summary import Evaluation, Summary
from omega21.protocol.legacy import Info, Status
from omega21.protocol.plan import Segment
from omega21.protocol.runs import RunState, RunSummary
from omega21.protocol.steps import StepRecord

How = Literal["created", "continued", "finishing", "watched", "stored"]
"""How the run was met: made new; its plan grew; its unfinished segment is being finished; looked at
on the server while another program trains it; looked at in its folder."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A server answered and is the right one."""

    address: str
    info: Info


@dataclass(frozen=True, slots=True)
class RunReady:
    """The run is on the server and the segment to train is in the plan.

    `first_step` to `last_step` are the segment's steps; `position` is where the server stands.
    """

    how: How
    run: str
    run_id: str
    number: int
    segment: Segment
    first_step: int
    last_step: int
    position: RunSummary


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell the user, in one line."""

    text: str


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """Samples of the segment that are made and that the server has, of all of them."""

    generated: int
    uploaded: int
    samples: int
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class StepsDone:
    """Results of the segment that are new, ascending, on disk here; where the run stands now."""

    rows: tuple[StepRecord, ...]
    position: RunSummary
    waiting_for: int = 0


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The run is in another state: training, waiting, paused."""

    position: RunSummary


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Held-out samples of segment `segment` were scored, at this time; on disk here."""

    evaluation: Evaluation
    segment: int
    ended_at: float


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """How the server is: its device and memory, how often it was started again."""

    status: Status


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The server is unreachable since this time (seconds since 1970); it is tried again."""

    since: float
    error: str


@dataclass(frozen=True, slots=True)
class LinkRestored:
    """The server answers again."""


@dataclass(frozen=True, slots=True)
class Done:
    """The segment is trained and evaluated: its figures, and the run's last state.

    `evaluation` is None where nothing was held out.
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
    """Return an event for machines: its name in snake_case under `event`, and its fields.

    Every value is what JSON has; a row leaves out what has its default, a segment its shards.
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
