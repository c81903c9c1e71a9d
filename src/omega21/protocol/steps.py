"""Step records, and how they are read."""

import base64

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from omega21.protocol.messages import Reply
from omega21.protocol.metrics import MetricMap, VectorMap
from omega21.protocol.runs import RunSummary

MAX_WAIT_SECONDS = 25.0
"""Longest long poll: tunnels cut longer ones."""

MAX_ROWS = 1000
MAX_ROWS_WITH_VECTORS = 250

MOST_NON_FINITE_IN_A_ROW = 10
"""Number of consecutive non-finite steps after which a run has diverged and stops."""


class StepRecord(Reply):
    """The result of one optimizer step.

    Fields with default values are left out of replies, to keep a record small.
    """

    step: int
    loss: float | None = Field(
        default=None, description="mean over the batch, before the update; null if not finite"
    )
    samples: int
    digest: str
    ended_at: float = Field(description="seconds since 1970, by the server's clock")
    seconds: float = Field(description="time this step took")
    non_finite: bool = Field(
        default=False, description="loss or gradient was not finite: weights untouched"
    )
    skipped: bool = Field(
        default=False, description="skipped by the scaler of half precision: weights untouched"
    )
    micro_batch_size: int | None = Field(
        default=None, description="samples computed at a time, where the batch did not fit"
    )
    metrics: MetricMap = Field(
        default_factory=dict,
        description="the task's own, means over the batch; null where not finite",
    )
    vectors: VectorMap | None = Field(
        default=None,
        description="the task's own, means over the batch, where they were asked for; "
        "0 where not finite",
    )


class StepsReply(RunSummary):
    """Step records after a cursor, ascending and without gaps, with the run's position."""

    steps: list[StepRecord]
    waiting_for: int = Field(default=0, description="needed shards that are not here")


def float32_as_json(value: float) -> float:
    """Return the shortest decimal that reads back as the same float32."""
    return float(str(np.float32(value)))


class EvaluateReply(Reply):
    """Loss, metrics and scores of samples under a run's weights, in evaluation mode."""

    run: str
    step: int = Field(ge=0, description="the step whose weights were used")
    samples: int = Field(ge=1)
    loss: float | None = Field(description="mean over the samples; null if not finite")
    metrics: MetricMap = Field(
        default_factory=dict, description="means over the samples; null where not finite"
    )
    scores: str | None = Field(
        default=None,
        description="of a task that scores samples, in the order of the shards and of their "
        "samples: little-endian float32, base64; NaN or infinite where the outputs are",
    )

    def score_array(self) -> NDArray[np.float32]:
        """Return the scores as an array [samples]. Raises ValueError if there are none."""
        if self.scores is None:
            raise ValueError("the task gives no scores")
        return np.frombuffer(base64.b64decode(self.scores), dtype="<f4").astype(np.float32)


def encode_scores(scores: NDArray[np.float32]) -> str:
    """Encode scores [samples] for `EvaluateReply.scores`."""
    return base64.b64encode(np.ascontiguousarray(scores, dtype="<f4").tobytes()).decode()
