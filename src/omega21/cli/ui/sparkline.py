"""A curve in a terminal: braille dots, or plain characters where the encoding has none.

A braille character is 2 dots wide and 4 high; its code is 0x2800 plus a bit for each dot.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_BRAILLE: Final = 0x2800
_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of a dot, by its row and column within a character."""

_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BARS: Final = "_.-=+*#@"


class Trend:
    """A series of any length in bounded memory: neighbours are averaged when it is full."""

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._means: list[float] = []
        self._size = 1  # values that one mean stands for
        self._open: list[float] = []

    def add(self, value: float) -> None:
        """Append a value; one that is not finite is left out."""
        if not math.isfinite(value):
            return
        self._open.append(value)
        if len(self._open) < self._size:
            return
        self._means.append(sum(self._open) / self._size)
        self._open.clear()
        if len(self._means) == self._capacity:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means = [(left + right) / 2 for left, right in pairs]
            self._size *= 2

    def values(self) -> list[float]:
        """Return the stored series, with the newest value."""
        rest = [sum(self._open) / len(self._open)] if self._open else []
        return [*self._means, *rest]


def columns(values: Sequence[float], width: int) -> list[float]:
    """Resample a series to `width` values: means of neighbours, or linear interpolation."""
    if len(values) > width:
        bounds = [round(place * len(values) / width) for place in range(width + 1)]
        return [sum(values[start:stop]) / (stop - start) for start, stop in pairwise(bounds)]
    if len(values) == 1 or width == 1:
        return [values[-1]] * width
    places = [column * (len(values) - 1) / (width - 1) for column in range(width)]
    return [_between(values, place) for place in places]


def is_wide(values: Sequence[float]) -> bool:
    """Whether values span two powers of ten or more, so that a plain scale would hide most."""
    positive = [value for value in values if value > 0]
    return min(values) >= 0 and bool(positive) and max(positive) >= 100 * min(positive)


def curve(
    values: Sequence[float], *, width: int, height: int, ascii_only: bool, share: float = 1.0
) -> list[str]:
    """Draw a series as `height` lines of `width` characters, the first one on top.

    It takes `share` of the width: a curve that grows with what it shows. Where the values span
    powers of ten (`is_wide`), so does the scale.
    """
    across, down = (1, 1) if ascii_only else (2, 4)
    if is_wide(values):
        least = min(value for value in values if value > 0)
        values = [math.log(max(value, least)) for value in values]
    shown = columns(values, max(1, round(width * across * share)))
    low, high = min(shown), max(shown)
    places = [_place(value, low, high) for value in shown]
    rows = [round(place * (height * down - 1)) for place in places]
    cells = [[0] * width for _ in range(height)]
    for column, row in enumerate(rows):
        for covered in _joined(rows[max(column - 1, 0)], row):
            bit = 1 if ascii_only else _DOTS[covered % 4][column % 2]
            cells[covered // down][column // across] |= bit
    draw = _star if ascii_only else _braille
    return ["".join(draw(bits) for bits in line) for line in cells]


def sparkline(values: Sequence[float], *, width: int, ascii_only: bool) -> str:
    """Draw a series as one line of bars, lowest to highest."""
    bars = _ASCII_BARS if ascii_only else _BARS
    shown = columns(values, min(width, len(values)))
    low, high = min(shown), max(shown)
    tops = len(bars) - 1
    return "".join(bars[round((1 - _place(value, low, high)) * tops)] for value in shown)


def _between(values: Sequence[float], place: float) -> float:
    left = min(int(place), len(values) - 2)
    return values[left] + (values[left + 1] - values[left]) * (place - left)


def _place(value: float, low: float, high: float) -> float:
    """Return where a value is, 0 on top and 1 below; a flat curve is in the middle."""
    return 0.5 if high == low else (high - value) / (high - low)


def _joined(before: int, now: int) -> range:
    """Return the rows that a curve covers from one column to the next."""
    if before == now:
        return range(now, now + 1)
    return range(before + 1, now + 1) if before < now else range(now, before)


def _star(bits: int) -> str:
    return "*" if bits else " "


def _braille(bits: int) -> str:
    return chr(_BRAILLE + bits)
