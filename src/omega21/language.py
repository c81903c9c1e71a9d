"""The language in which the program speaks to a person: English, or Spanish.

`_("{count} steps left").format(count=3)`: the message is looked up as it is written, and filled in
afterwards. Machine output (JSON, logs, codes, names on the wire) is never translated.
"""

import gettext
import os
from importlib.resources import files

LANGUAGES = ("en", "es")
_DOMAIN = "omega21"
_catalogue: gettext.NullTranslations = gettext.NullTranslations()
_chosen = "en"


def choose_language(language: str | None = None) -> str:
    """Speak `language` from now on; without one, the locale's; return which it is.

    Any locale but a Spanish one is answered in English.
    """
    global _catalogue, _chosen  # noqa: PLW0603  # one for the whole process, as with a locale
    asked = language or _language_of_locale()
    _chosen = chosen = asked if asked in LANGUAGES else "en"
    _catalogue = gettext.translation(
        _DOMAIN, localedir=str(files("omega21") / "locales"), languages=[chosen], fallback=True
    )
    return chosen


def language() -> str:
    """Return the language in force; numbers and dates are written in it."""
    return _chosen


def _(message: str) -> str:
    """Return `message` in the language chosen."""
    return _catalogue.gettext(message)


def ngettext(one: str, many: str, number: int) -> str:
    """Return `one` or `many`, whichever goes with `number`, in the language chosen."""
    return _catalogue.ngettext(one, many, number)


def _language_of_locale() -> str:
    """The language of the first locale variable that is set, in gettext's order."""
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return value.partition(":")[0].partition(".")[0].partition("_")[0].lower()
    return "en"
