"""Evaluations: how well a run scores held-out samples at a step.

The client joins the scores of all samples, computes the evaluation, and records it on the server,
where the dashboard and other clients read it.
"""

from typing import Annotated

from pydantic import Field

from omega21.protocol.messages import Reply, Request
from omega21.protocol.names import RunId, RunName

MAX_EVALUATIONS = 1000
"""Maximum number of evaluations in one reply."""

Count = Annotated[int, Field(ge=0, le=2**53)]
Area = Annotated[float, Field(ge=0, le=1)]


class Evaluation(Reply):
    """How well a run scores samples that it was not trained on.

    `found` anomalies and `false_alarms` have a probability over 0.5. `not_finite` samples score NaN
    or infinite: the loss is None then, and AUROC and average precision are those of the others.
    These two are None where the samples are all of one class, for which they do not exist.
    """

    step: Count = Field(description="the step whose weights were used")
    samples: int = Field(ge=1, le=2**53)
    anomalies: Count
    found: Count = Field(description="anomalies with a probability over 0.5")
    false_alarms: Count = Field(description="normal samples with a probability over 0.5")
    not_finite: Count = Field(default=0, description="samples whose score is NaN or infinite")
    loss: float | None = Field(description="mean over the samples; null if not finite")
    auroc: Area | None = Field(description="null where the samples are all of one class")
    average_precision: Area | None


class RecordEvaluation(Evaluation, Request):
    """Records an evaluation; one that is equal in every field is recorded once."""

    run_id: RunId


class EvaluationRow(Evaluation):
    """An evaluation as it is stored."""

    number: Count = Field(description="ascending in the order of arrival: the cursor")
    at: float = Field(description="when it was recorded, seconds since 1970, by the server's clock")


class EvaluationsReply(Reply):
    """Evaluations of a run after a cursor, in the order of arrival."""

    run: RunName
    evaluations: list[EvaluationRow]
