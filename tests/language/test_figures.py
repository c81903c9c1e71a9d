"""Figures that people read: what is less than all of it is never written as all of it."""

import pytest

from omega21.language.figures import percent, score


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.0, "1.0000"),
        (0.5, "0.5000"),
        (0.99951, "0.9995"),
        (0.99996, "0.99996"),
        (0.999_999_7, "0.9999997"),
        (0.00001, "1.0E-5"),
        (0.0, "0.0000"),
        (None, "-"),
    ],
)
def test_a_score_that_is_not_one_is_not_written_as_one(value: float | None, written: str) -> None:
    assert score(value) == written


def test_a_score_of_few_digits_takes_more_where_it_needs_them() -> None:
    assert score(0.9996, 3) == "0.9996"
    assert score(0.9994, 3) == "0.999"


@pytest.mark.parametrize(
    ("share", "written"), [(1.0, "100%"), (0.75, "75%"), (0.996, "99.6%"), (0.99999, "99.999%")]
)
def test_a_share_that_is_not_the_whole_is_not_written_as_the_whole(
    share: float, written: str
) -> None:
    assert percent(share) == written
