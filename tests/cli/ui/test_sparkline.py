"""Curves made of characters, as they look."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.cli.ui.sparkline import Trend, columns, curve, is_wide, sparkline

FINITE = st.floats(-1e6, 1e6)


def test_a_line_of_braille_dots_falls_from_the_first_corner_to_the_last() -> None:
    assert curve([3.0, 2.0, 1.0, 0.0], width=2, height=1, ascii_only=False) == ["⠑⢄"]


def test_plain_characters() -> None:
    drawn = curve([0.0, 1.0, 2.0, 2.0], width=4, height=3, ascii_only=True)
    assert drawn == ["  **", " *  ", "*   "]


def test_a_curve_takes_its_share_of_the_width() -> None:
    drawn = curve([0.0, 1.0], width=10, height=2, ascii_only=True, share=0.4)
    assert {len(line) for line in drawn} == {10}
    assert max(len(line.rstrip()) for line in drawn) == 4


def test_powers_of_ten_are_seen_on_their_scale() -> None:
    losses = [10.0**-power for power in range(5)]
    drawn = curve(losses, width=5, height=5, ascii_only=True)
    assert drawn == ["*    ", " *   ", "  *  ", "   * ", "    *"]
    assert is_wide([1.0, 0.0, 0.005])
    assert not is_wide([1.0, 0.5])
    assert not is_wide([-1.0, 100.0, 1.0])


def test_a_sparkline_goes_from_low_to_high() -> None:
    assert sparkline([0.5, 0.75, 1.0], width=8, ascii_only=False) == "▁▅█"
    assert sparkline([0.5, 1.0], width=8, ascii_only=True) == "_@"


@given(st.lists(FINITE, min_size=1, max_size=300), st.integers(1, 50), st.floats(0, 1))
def test_any_series_is_drawn_within_its_field(
    values: list[float], width: int, share: float
) -> None:
    for ascii_only in (False, True):
        drawn = curve(values, width=width, height=4, ascii_only=ascii_only, share=share)
        assert len(drawn) == 4
        assert {len(line) for line in drawn} == {width}
        assert any(line.strip(" \u2800") for line in drawn)


@given(st.lists(FINITE, min_size=1, max_size=300), st.integers(1, 50))
def test_columns_stay_between_the_lowest_and_the_highest(values: list[float], width: int) -> None:
    shown = columns(values, width)
    assert len(shown) == width
    tiny = 1e-6 * max(1.0, *map(abs, values))
    assert min(values) - tiny <= min(shown)
    assert max(shown) <= max(values) + tiny


def test_a_trend_of_any_length_is_kept_in_bounded_memory() -> None:
    trend = Trend(capacity=8)
    for step in range(1000):
        trend.add(float(step))
    kept = trend.values()

    assert len(kept) <= 8
    assert kept == sorted(kept)
    assert kept[0] < 150
    assert kept[-1] > 850


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_not_drawn(value: float) -> None:
    trend = Trend()
    for added in (1.0, value, 2.0):
        trend.add(added)
    assert trend.values() == [1.0, 2.0]
