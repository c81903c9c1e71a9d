"""Formatting of numbers, sizes, durations and dates for people, by the current locale.

0.6388, or 0,6388 in Spain; dates in ISO 8601, which every country reads. Only for text that people
read: JSON, CSV and logs have one format.
"""

from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Final

from omega21.language import current_locale

_MOST_WRITTEN_OUT: Final = 1e15
"""Larger numbers are written with an exponent: a float has no more digits."""
_LAST_SECOND: Final = 253_370_764_800.0
"""Start of the year 9999."""
_POINT_IN_SPANISH: Final = frozenset(
    ("419", "BR", "BZ", "CU", "DO", "GT", "HN", "MX", "NI", "PA", "PE", "PR", "SV", "US")
)
"""Where Spanish is written with a decimal point, by Unicode's CLDR; elsewhere with a comma."""


def decimal(value: float, digits: int) -> str:
    """Format a number with `digits` decimals: 0.6388."""
    return _written(value, f".{digits}f")


def count(value: int) -> str:
    """Format an integer with group separators: 11,900,000."""
    return number(value, 0)


def number(value: float | None, digits: int = 4) -> str:
    """Format a number: a dash for None, an exponent for one that would round to 0."""
    if value is None:
        return "-"
    if value and abs(value) < 0.5 * 10**-digits and digits > 1:
        return _scientific(value)
    return _written(value, f",.{digits}f")


def plain(value: float) -> str:
    """Format a number with as many decimals as it has, at most six, or an exponent: for an axis."""
    value = float(f"{value:.12g}")  # 9.999999999999999e-06 is meant to be 1e-05, not 10E-6
    if 0 < abs(value) < 1e-4 or not abs(value) < _MOST_WRITTEN_OUT:
        return number(value)
    return _local(_trimmed(f"{Decimal(str(value)):,.6f}"))


def score(value: float | None, digits: int = 4) -> str:
    """Format a score in [0, 1]; only 1 is 1.0000, a lower score gets enough digits."""
    return number(
        value, digits if value is None or not isfinite(value) else _telling(value, digits)
    )


def percent(share: float, digits: int = 0) -> str:
    """Format a share of 1 in percent, with at most `digits` decimals: 12.5%.

    Only 1 is 100%; a lower share gets enough digits to show that.
    """
    if not abs(share) < _MOST_WRITTEN_OUT:
        return f"{number(share)} × 100%" if isfinite(share) else str(share)
    written = f"{Decimal(str(share)) * 100:.{_telling(share, digits + 2) - 2}f}"
    return _local(_trimmed(written)) + ("\xa0%" if _has_comma() else "%")


def size(of_bytes: float) -> str:
    """Format a number of bytes in a suitable decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if of_bytes < 1000 or unit == "GB":
            break
        of_bytes /= 1000
    return f"{number(of_bytes, 0 if unit == 'B' or of_bytes >= 100 else 1)} {unit}"


def duration(seconds: float) -> str:
    """Format a duration: 12 s, 3 min 20 s, 2 h 05 min; a dash for an infinite one."""
    if not isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{count(whole // 3600)} h {whole % 3600 // 60:02d} min"


def clock(seconds: float) -> str:
    """Format a time of day, given seconds since 1970, in this machine's time zone."""
    return f"{_here(seconds):%H:%M:%S}"


def moment(seconds: float) -> str:
    """Format a date and a time, given seconds since 1970, in this machine's time zone."""
    return f"{_here(seconds):%Y-%m-%d %H:%M:%S}"


def dated(seconds: float) -> str:
    """Format a date and a time with the zone, for other machines: 2026-11-24 09:05 UTC."""
    return f"{_here(seconds):%Y-%m-%d %H:%M %Z}"


def _telling(value: float, digits: int) -> int:
    """Return the least number of decimals, at least `digits`, that does not round up to 1."""
    while value < 1 and round(value, digits) >= 1:
        digits += 1
    return digits


def _here(seconds: float) -> datetime:
    """Return the local time; one outside the calendar becomes the nearest valid one."""
    known = min(max(seconds, 0.0), _LAST_SECOND) if isfinite(seconds) else 0.0
    return datetime.fromtimestamp(known).astimezone()


def _written(value: float, form: str) -> str:
    if not isfinite(value):
        return str(value)
    if abs(value) >= _MOST_WRITTEN_OUT:
        return _scientific(value)
    return _local(format(Decimal(str(value)), form))  # of its digits, not of its bits: 0.15 is 0.2


def _scientific(value: float) -> str:
    digits, power = f"{value:.1e}".split("e")
    return f"{_local(digits)}E{int(power)}"


def _trimmed(written: str) -> str:
    """Leave out the zeros at the end of a number's decimals."""
    return written.rstrip("0").rstrip(".") if "." in written else written


def _local(written: str) -> str:
    """Write as the country does what Python writes as in English."""
    return written.translate(str.maketrans(",.", ".,")) if _has_comma() else written


def _has_comma() -> bool:
    language, _separator, country = current_locale().partition("_")
    return language == "es" and country not in _POINT_IN_SPANISH
