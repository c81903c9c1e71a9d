"""Evaluations: how well a run scores held-out samples at a step.

The client joins the scores of all samples, computes the evaluation, and records it on the server,
where the dashboard and other clients read it.
"""

from typing import Annotated, Final

from pydantic import Field

from omega21.protocol.messages import Reply, Request
from omega21.protocol.metrics import MetricMap
from omega21.protocol.names import RunId, RunName

MAX_EVALUATIONS = 1000
"""Maximum number of evaluations in one reply."""

Count = Annotated[int, Field(ge=0, le=2**53)]

SCORE_AREAS: Final = ("auroc", "average_precision")
SCORE_COUNTS: Final = ("positives", "true_positives", "false_positives")
SCORE_METRICS: Final = (*SCORE_AREAS, *SCORE_COUNTS)
"""Metrics that are computed from scores and a target of 0 and 1, in the order that views show."""


class Evaluation(Reply):
    """How well a run does on samples that it was not trained on.

    `not_finite` samples score NaN or infinite. Of a task that scores samples for a target of 0 and
    1, the metrics begin with `auroc` and `average_precision`, over the finite scores and None where
    all samples are of one class, and the counts `positives`, `true_positives` and
    `false_positives`, where a score over 0.5 is a prediction of 1.
    """

    step: Count = Field(description="the step whose weights were used")
    samples: int = Field(ge=1, le=2**53)
    not_finite: Count = Field(default=0, description="samples whose score is NaN or infinite")
    loss: float | None = Field(description="mean over the samples; null if not finite")
    metrics: MetricMap = Field(
        default_factory=dict, description="by name; null where one is not finite or not defined"
    )


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
