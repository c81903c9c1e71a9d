"""Runs: configuration, state, and the requests that change them."""

from typing import Literal

from pydantic import Field

from omega21.protocol.messages import Document, Reply, Request
from omega21.protocol.metrics import MetricMap
from omega21.protocol.names import RunId, RunName, Sha256
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.schema import Schema
from omega21.protocol.tasks.task import Task

Precision = Literal["float32", "bfloat16", "float16"]
PrecisionAsked = Literal["auto", "float32", "bfloat16", "float16"]

RunStatus = Literal["idle", "training", "waiting", "paused", "diverged", "failed"]
"""The state of a run: finished; training; waiting for shards; paused; stopped for good (ten
steps in a row not finite); stopped until the server restarts (its device or disk failed)."""


class RunConfig(Document):
    """What defines a run besides its plan; fixed when the run is created."""

    task: Task
    sample_schema: Schema
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    precision: PrecisionAsked = "auto"
    seed: int = Field(default=42, ge=0, lt=2**63)
    deterministic: bool = Field(
        default=True, description="false trades equal bits for speed where the device offers it"
    )


class CreateRun(Request):
    """Creates a run, or confirms that it exists with this id and configuration."""

    id: RunId
    config: RunConfig


class Advance(Request):
    """Raises a run's target to step `to`; a lower one changes nothing."""

    run_id: RunId
    to: int = Field(ge=0, le=2**53)


class Control(Request):
    """Pauses or resumes a run; the highest revision wins, older ones change nothing."""

    run_id: RunId
    revision: int = Field(ge=0, le=2**53)
    paused: bool


class Environment(Document):
    """The environment in which steps from `from_step` on were computed; it decides their bits."""

    from_step: int
    device: str
    precision: Precision
    deterministic: bool
    threads: int
    torch_version: str
    omega21_version: str

    def same_bits(self, other: "Environment") -> bool:
        """Whether both are the same environment, whatever their first step."""
        return self.model_copy(update={"from_step": other.from_step}) == other


class RunSummary(Reply):
    """A run's position, as every long poll returns it."""

    run: RunName
    id: RunId
    state: RunStatus
    step: int = Field(description="last step applied")
    target: int
    plan_steps: int
    durable_step: int = Field(description="last step whose state is safe on disk")
    paused: bool
    revision: int = Field(description="of the control request in force")
    digest: str = Field(description="chained over the results up to `step`")
    reason: str | None = Field(default=None, description="why the run diverged or failed")
    reason_code: str | None = Field(
        default=None, description="code of the error that failed the run, if it has one"
    )


class RunState(RunSummary):
    """Everything about a run except its results."""

    weights_sha256: Sha256 = Field(description="of the weights after `step`, in name order")
    segments: int
    plan_sha256: Sha256
    non_finite_in_a_row: int
    waiting_for: list[Sha256] = Field(
        description="shards listed in the plan that are not here and are needed; at most 1000"
    )
    environments: list[Environment]
    config: RunConfig
    created_at: float = Field(description="seconds since 1970")


class ListedRun(RunSummary):
    """A run in the list of runs, with its results so far."""

    loss: float | None = Field(default=None, description="of the newest step that counted")
    metrics: MetricMap = Field(default_factory=dict, description="of the newest evaluation")


class RunList(Reply):
    """The runs of a server, by name."""

    runs: list[ListedRun]


class RunRemoved(Reply):
    """A run was removed; its id cannot be used again."""

    run: RunName
    id: RunId
