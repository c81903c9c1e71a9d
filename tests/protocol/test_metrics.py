"""Names of metrics come from a user's model: what they may be."""

import pytest

from omega21.protocol.metrics import MAX_METRICS, check_metric_names, finite_or_none


@pytest.mark.parametrize("name", ["accuracy", "_x", "F1", "top-1", "a.b.c", "a" * 64])
def test_names_of_the_field_are_allowed(name: str) -> None:
    check_metric_names([name])


@pytest.mark.parametrize(
    "name",
    ["", "loss", "1st", "two words", "a/b", "a" * 65, 'quote"', "line\n", "\x1b[31m", "ñ", "a\n"],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a metric"):
        check_metric_names(["accuracy", name])


def test_there_are_at_most_32() -> None:
    names = [f"m{number}" for number in range(MAX_METRICS + 1)]
    check_metric_names(names[:-1])
    with pytest.raises(ValueError, match="at most 32 metrics, this one has 33"):
        check_metric_names(names)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_missing(value: float) -> None:
    assert finite_or_none(value) is None
    assert finite_or_none(0.25) == 0.25
