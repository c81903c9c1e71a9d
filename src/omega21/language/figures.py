"""Formatting of numbers, sizes, durations and dates for people, by the current locale.

0.6388, or 0,6388 in Spain. Only for text that people read: JSON, CSV and logs have one format.
Babel is imported on first use, since its import takes longer than the program's start.
"""

from datetime import datetime
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Final

from omega21.language import _, current_locale

if TYPE_CHECKING:
    from babel import Locale

_MOST_WRITTEN_OUT: Final = 1e15
"""From here on numbers are written with an exponent; Babel cannot format 10^28 otherwise."""
_LAST_SECOND: Final = 253_370_764_800.0
"""Start of the year 9999."""


def decimal(value: float, digits: int) -> str:
    """Format a number with `digits` decimals: 0.6388."""
    return _decimal(value, _pattern(digits))


def count(value: int) -> str:
    """Format an integer with group separators: 11,900,000."""
    return number(value, 0)


def number(value: float | None, digits: int = 4) -> str:
    """Format a number: a dash for None, an exponent for one that would round to 0."""
    if value is None:
        return "-"
    if value and abs(value) < 0.5 * 10**-digits and digits > 1:
        from babel.numbers import format_scientific  # noqa: PLC0415 - see above

        return str(format_scientific(value, "0.0E0", _locale(current_locale())))
    return _decimal(value, f"#,##{_pattern(digits)}")


def plain(value: float) -> str:
    """Format a number with as many decimals as it has, at most six, or an exponent: for an axis."""
    value = float(f"{value:.12g}")  # 9.999999999999999e-06 has to become 1e-05, not 10E-6
    return number(value) if 0 < abs(value) < 1e-4 else _decimal(value, "#,##0.######")


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
    digits = _telling(share, digits + 2) - 2
    from babel.numbers import format_percent  # noqa: PLC0415 - see above

    locale = _locale(current_locale())
    written = f"0.{'#' * digits}" if digits else "0"
    pattern = locale.percent_formats[None].pattern.replace("#,##0", written)
    return format_percent(share, pattern, locale)


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
    from babel.dates import format_time  # noqa: PLC0415 - see above

    return format_time(_here(seconds), "HH:mm:ss", locale=_locale(current_locale()))


def moment(seconds: float) -> str:
    """Format a date and a time, given seconds since 1970, in this machine's time zone."""
    from babel.dates import format_datetime  # noqa: PLC0415 - see above

    return format_datetime(_here(seconds), "medium", locale=_locale(current_locale()))


def dated(seconds: float) -> str:
    """Format a date and a time with the zone, for other machines: 24 November 2026, 09:05 UTC."""
    from babel.dates import format_datetime  # noqa: PLC0415 - see above

    pattern = str(_("d MMMM y, HH:mm zzz"))
    return format_datetime(_here(seconds), pattern, locale=_locale(current_locale()))


def _telling(value: float, digits: int) -> int:
    """Return the least number of decimals, at least `digits`, that does not round up to 1."""
    while value < 1 and round(value, digits) >= 1:
        digits += 1
    return digits


def _here(seconds: float) -> datetime:
    """Return the local time; one outside the calendar becomes the nearest valid one."""
    known = min(max(seconds, 0.0), _LAST_SECOND) if isfinite(seconds) else 0.0
    return datetime.fromtimestamp(known).astimezone()


def _decimal(value: float, pattern: str) -> str:
    if not isfinite(value):
        return str(value)
    from babel.numbers import format_decimal, format_scientific  # noqa: PLC0415 - see above

    if abs(value) >= _MOST_WRITTEN_OUT:
        return str(format_scientific(value, "0.0E0", _locale(current_locale())))
    return str(format_decimal(value, pattern, _locale(current_locale())))


def _pattern(digits: int) -> str:
    return f"0.{'0' * digits}" if digits else "0"


@cache
def _locale(name: str) -> "Locale":
    """Return the locale of a name, or of its language if Babel does not know the country."""
    from babel import Locale, UnknownLocaleError  # noqa: PLC0415 - see above

    try:
        return Locale.parse(name)
    except (UnknownLocaleError, ValueError):
        return Locale.parse(name.partition("_")[0])
