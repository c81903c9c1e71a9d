"""Names and values of metrics come from a user's model: what they may be."""

import pytest
from pydantic import TypeAdapter, ValidationError

from omega21.protocol.metrics import MetricMap, finite_or_none

METRICS: TypeAdapter[dict[str, float | None]] = TypeAdapter(MetricMap)


@pytest.mark.parametrize("name", ["accuracy", "_x", "F1", "top-1", "a.b.c", "a" * 64])
def test_names_of_the_field_are_read(name: str) -> None:
    assert METRICS.validate_python({name: 0.5}) == {name: 0.5}


@pytest.mark.parametrize(
    "name",
    ["", "1st", "two words", "a/b", "a" * 65, 'quote"', "line\n", "\x1b[31m", "ñ", "a\n"],
)
def test_others_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        METRICS.validate_python({name: 0.5})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_missing(value: float) -> None:
    assert finite_or_none(value) is None
    assert finite_or_none(0.25) == 0.25
    with pytest.raises(ValidationError):
        METRICS.validate_python({"accuracy": value})
