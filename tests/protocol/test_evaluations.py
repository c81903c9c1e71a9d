"""An evaluation has the same fields and bounds when it is made, sent, stored and read."""

import pytest
from pydantic import ValidationError

from omega21.protocol.evaluations import Evaluation, EvaluationRow, RecordEvaluation

FIGURES = {
    "step": 4,
    "samples": 8,
    "not_finite": 0,
    "loss": 0.5,
    "metrics": {"auroc": 0.9, "average_precision": None, "top-1.train": -2.5},
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
        *((name, -1) for name in ("step", "not_finite")),
        ("samples", 0),
        ("samples", 2**60),
        ("metrics", {"two words": 0.5}),
        ("metrics", {"": 0.5}),
        ("metrics", {"a" * 65: 0.5}),
        ("metrics", {"f1": float("nan")}),
        ("metrics", {"f1": "high"}),
        ("metrics", {f"m{number}": 0.5 for number in range(65)}),
    ],
)
def test_a_figure_out_of_bounds_is_refused(
    message: type[Evaluation], field: str, value: object
) -> None:
    sound = {**FIGURES, **FURTHER[message]}
    assert message.model_validate(sound).model_dump() == sound
    with pytest.raises(ValidationError, match=field):
        message.model_validate({**sound, field: value})


def test_what_is_sent_is_strict_and_what_is_read_is_lenient() -> None:
    newer = {**FIGURES, "median": 0.9}
    assert Evaluation.model_validate(newer) == Evaluation.model_validate(FIGURES)
    with pytest.raises(ValidationError, match="median"):
        RecordEvaluation.model_validate({**newer, "run_id": "1" * 32})
