"""What happens while a run is trained, as values: what `train` yields, for people and programs."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from omega21.client.summary import Evaluation, Summary
from omega21.protocol.classic import Info
from omega21.protocol.plan import Segment
from omega21.protocol.runs import RunState, RunSummary
from omega21.protocol.steps import StepRow

How = Literal["created", "continued", "finishing", "adopted", "restored"]
"""How the run was met: made new; its plan grew; its unfinished segment is being finished; taken
over from the server, which had it while this machine did not; put back on a server that had not."""


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

    rows: tuple[StepRow, ...]
    position: RunSummary
    waiting_for: int = 0


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The run is in another state: training, waiting, paused."""

    position: RunSummary


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
    | LinkLost
    | LinkRestored
    | Done
)
