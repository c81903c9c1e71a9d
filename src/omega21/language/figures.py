"""Numbers and dates as the language that is spoken writes them: 0.6388 or 0,6388.

Only for what people read: JSON, CSV and logs have one form everywhere. Babel is imported when the
first figure is written, since that takes longer than starting the program.
"""

from datetime import datetime
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING

from omega21.language import current_locale

if TYPE_CHECKING:
    from babel import Locale


def decimal(value: float, digits: int) -> str:
    """Write a number with `digits` decimals: 0.6388."""
    if not isfinite(value):
        return str(value)
    from babel.numbers import format_decimal  # noqa: PLC0415 - see above

    return str(format_decimal(value, _pattern(digits), _locale(current_locale())))


def grouped(value: float, digits: int = 0) -> str:
    """Write a number with its thousands apart, for those that are long: 11,900,000."""
    from babel.numbers import format_decimal  # noqa: PLC0415 - see above

    return str(format_decimal(value, f"#,##{_pattern(digits)}", _locale(current_locale())))


def percent(share: float, digits: int = 0) -> str:
    """Write a share of 1 in percent, with at most `digits` decimals: 12.5%."""
    from babel.numbers import format_percent  # noqa: PLC0415 - see above

    locale = _locale(current_locale())
    number = f"0.{'#' * digits}" if digits else "0"
    pattern = locale.percent_formats[None].pattern.replace("#,##0", number)
    return format_percent(share, pattern, locale)


def moment(seconds: float) -> str:
    """Write a time, given in seconds since 1970, in this machine's time zone."""
    from babel.dates import format_datetime  # noqa: PLC0415 - see above

    here = datetime.fromtimestamp(seconds).astimezone()
    return format_datetime(here, "medium", locale=_locale(current_locale()))


def _pattern(digits: int) -> str:
    return f"0.{'0' * digits}" if digits else "0"


@cache
def _locale(name: str) -> "Locale":
    """The locale of a name, or of its language where Babel does not know the country."""
    from babel import Locale, UnknownLocaleError  # noqa: PLC0415 - see above

    try:
        return Locale.parse(name)
    except (UnknownLocaleError, ValueError):
        return Locale.parse(name.partition("_")[0])
