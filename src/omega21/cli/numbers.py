"""Numbers, sizes, lengths and points of time for people, as the language in force writes them."""

from datetime import datetime

from babel.dates import format_datetime, format_time
from babel.numbers import format_decimal, format_percent, format_scientific

from omega21.language import _, current_language


def number(value: float | None, digits: int = 4) -> str:
    """Write a figure: a dash where there is none, with its power where it would round to 0."""
    if value is None:
        return "-"
    if value and abs(value) < 0.5 * 10**-digits and digits > 1:
        small: str = format_scientific(value, format="0.0E0", locale=current_language())
        return small
    places = f".{'0' * digits}" if digits else ""
    text: str = format_decimal(value, format=f"#,##0{places}", locale=current_language())
    return text


def count(value: int) -> str:
    """Write a whole number."""
    text: str = format_decimal(value, locale=current_language())
    return text


def percent(share: float) -> str:
    """Write a share of one as a percentage."""
    return format_percent(share, format="#,##0.#%", locale=current_language())


def size(of_bytes: float) -> str:
    """Write a number of bytes in the unit that fits, by thousands."""
    for unit in ("B", "kB", "MB", "GB"):
        if of_bytes < 1000 or unit == "GB":
            break
        of_bytes /= 1000
    return f"{number(of_bytes, 0 if unit == 'B' or of_bytes >= 100 else 1)} {unit}"


def duration(seconds: float) -> str:
    """Write a length of time: 12 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{count(whole // 3600)} h {whole % 3600 // 60:02d} min"


def clock(seconds: float) -> str:
    """Write a time of day, given seconds since 1970."""
    return format_time(
        datetime.fromtimestamp(seconds).astimezone(), "HH:mm:ss", locale=current_language()
    )


def moment(seconds: float) -> str:
    """Write a day and a time with its zone, given seconds since 1970."""
    when = datetime.fromtimestamp(seconds).astimezone()
    return format_datetime(when, _("d MMMM y, HH:mm zzz"), locale=current_language())
