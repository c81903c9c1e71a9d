"""An evaluation has the same fields and bounds when it is made, sent, stored and read."""

import pytest
from pydantic import ValidationError

from omega21.protocol.evaluations import Evaluation, EvaluationRow, RecordEvaluation

METRICS = {
    "step": 4,
    "samples": 8,
    "anomalies": 2,
    "found": 2,
    "false_alarms": 1,
    "not_finite": 0,
    "loss": 0.5,
    "auroc": 0.9,
    "average_precision": 0.8,
}
FURTHER: dict[type[Evaluation], dict[str, object]] = {
    Evaluation: {},
    RecordEvaluation: {"run_id": "1" * 32},
    EvaluationRow: {"number": 1, "at": 0.0},
}


@pytest.mark.parametrize("message", FURTHER)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, -1) for name in ("step", "anomalies", "found", "false_alarms", "not_finite")),
        ("samples", 0),
        ("samples", 2**60),
        ("auroc", 1.5),
        ("average_precision", -0.1),
    ],
)
def test_a_metric_out_of_bounds_is_refused(
    message: type[Evaluation], field: str, value: float
) -> None:
    sound = {**METRICS, **FURTHER[message]}
    assert message.model_validate(sound).model_dump() == sound
    with pytest.raises(ValidationError, match=field):
        message.model_validate({**sound, field: value})


def test_what_is_sent_is_strict_and_what_is_read_is_lenient() -> None:
    newer = {**METRICS, "f1": 0.9}
    assert Evaluation.model_validate(newer) == Evaluation.model_validate(METRICS)
    with pytest.raises(ValidationError, match="f1"):
        RecordEvaluation.model_validate({**newer, "run_id": "1" * 32})
