"""Every float can be written: what a server or a file says is not always a sensible number."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omega21.language import figures

WRITERS: dict[str, Callable[[float], str]] = {
    "number": figures.number,
    "decimal": lambda value: figures.decimal(value, 2),
    "plain": figures.plain,
    "percent": figures.percent,
    "size": figures.size,
    "duration": figures.duration,
    "clock": figures.clock,
    "moment": figures.moment,
    "dated": figures.dated,
}


@pytest.mark.parametrize("name", WRITERS)
@given(value=st.floats())
@example(1e30)
@example(float("inf"))
@example(-1e308)
def test_a_figure_is_written_whatever_it_is(name: str, value: float) -> None:
    written = WRITERS[name](value)

    assert written
    assert len(written) < 60
