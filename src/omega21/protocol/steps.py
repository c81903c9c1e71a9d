"""Step records, and how they are read."""

import base64

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from omega21.protocol.messages import Reply
from omega21.protocol.runs import RunSummary

MAX_WAIT_SECONDS = 25.0
"""Longest long poll: tunnels cut longer ones."""

MAX_ROWS = 1000
MAX_ROWS_WITH_VECTORS = 250

MOST_NON_FINITE_IN_A_ROW = 10
"""Number of consecutive non-finite steps after which a run has diverged and stops."""


class StepRecord(Reply):
    """The result of one optimizer step.

    Fields with default values are left out of replies, to keep a record under 200 bytes.
    """

    step: int
    loss: float | None = Field(
        default=None, description="mean over the batch, before the update; null if not finite"
    )
    anomaly_prob: float | None = Field(default=None, description="mean over the batch")
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
    dendrites: list[float] | None = Field(default=None, description="mean over the batch, [16]")
    coherence: list[float] | None = Field(default=None, description="mean over the batch, [64]")


class StepsReply(RunSummary):
    """Step records after a cursor, ascending and without gaps, with the run's position."""

    steps: list[StepRecord]
    waiting_for: int = Field(default=0, description="needed shards that are not here")


def float32_as_json(value: float) -> float:
    """Return the shortest decimal that reads back as the same float32."""
    return float(str(np.float32(value)))


class EvaluateReply(Reply):
    """Scores of samples under a run's weights, in evaluation mode."""

    run: str
    step: int = Field(ge=0, description="the step whose weights were used")
    samples: int = Field(ge=1)
    loss: float | None = Field(description="mean over the samples; null if not finite")
    scores: str = Field(
        description="anomaly probabilities in the order of the shards and of their samples: "
        "little-endian float32, base64; NaN or infinite where the outputs are"
    )

    def score_array(self) -> NDArray[np.float32]:
        """Return the scores as an array [samples]."""
        return np.frombuffer(base64.b64decode(self.scores), dtype="<f4").astype(np.float32)


def encode_scores(scores: NDArray[np.float32]) -> str:
    """Encode scores [samples] for `EvaluateReply.scores`."""
    return base64.b64encode(np.ascontiguousarray(scores, dtype="<f4").tobytes()).decode()
