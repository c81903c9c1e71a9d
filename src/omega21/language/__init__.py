"""The language in which the program speaks to a person: English, or Spanish.

`_("{count} steps left").format(count=3)`: the message is looked up as it is written, and filled in
afterwards. Machine output (JSON, logs, codes, names on the wire) is never translated.

A program chooses its language once (`choose_language`). A server speaks to many people: each
request has its own (`speaking`), which the threads that work for it take along with the context,
and what another thread said is said again in it (`LazyString`).
What nobody chose a language for, such as a library in somebody else's program, is in English.

    language/borrowed.py   what typer and pydantic say, which they say in English only
    language/figures.py    numbers and dates as the language writes them
    locales/               the catalogue; `make messages` brings it up to date
"""

import gettext
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Self

LANGUAGES = ("en", "es")
DOMAIN = "omega21"
LOCALES = Path(__file__).parent.parent / "locales"

_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")  # in gettext's order
_of_program = "en"
_of_context: ContextVar[str | None] = ContextVar("language", default=None)


def choose_language(language: str | None = None) -> str:
    """Speak `language` from now on; without one, the locale's; return which it is.

    Any locale but a Spanish one is answered in English.
    """
    global _of_program  # noqa: PLW0603  # one language for the whole process, as with a locale
    _of_program = _known(language or language_of_locale())
    return _of_program


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Speak `language` in this context alone: this request, this thread, this block."""
    before = _of_context.set(_known(language))
    try:
        yield
    finally:
        _of_context.reset(before)


def current_language() -> str:
    """Return the language that is spoken here and now."""
    return _of_context.get() or _of_program


def language_of_locale() -> str:
    """Return the language of the first locale variable that is set; English without any."""
    return _known(_locale().partition("_")[0])


def current_locale() -> str:
    """Return the language that is spoken, with the country where the locale names one: es_MX.

    The same language writes its numbers and dates differently from country to country.
    """
    language, locale = current_language(), _locale()
    return locale if locale.partition("_")[0] == language else language


def accepted_language(header: str) -> str:
    """Return the language that an Accept-Language header likes best; English without one."""
    best, most = "en", 0.0
    for choice in header.split(","):
        tag, *parameters = choice.split(";")
        language, liked = tag.strip().lower().partition("-")[0], _quality(parameters)
        if language in LANGUAGES and liked > most:
            best, most = language, liked
    return best


class LazyString(str):
    """A message in the language that was spoken when it was made, which can be said again.

    It is a text like any other; `str(message)` is what it says in the language spoken there: in
    English in a log, in the caller's in a reply, whichever thread has made it.
    """

    __slots__ = ("_forms", "_number", "_values")

    _forms: tuple[str, ...]
    _number: int
    _values: Mapping[str, object] | None

    def __new__(
        cls,
        text: str = "",
        *,
        forms: tuple[str, ...] = (),
        number: int = 1,
        values: Mapping[str, object] | None = None,
    ) -> Self:
        """Make what is said now, `text`, of one form or two, and of what fills them in."""
        said = super().__new__(cls, text)
        said._forms, said._number, said._values = forms, number, values
        return said

    def format(self, *_args: object, **values: object) -> "LazyString":
        """Fill in the placeholders, which are named."""
        return _said(self._forms, self._number, values)

    def __str__(self) -> str:
        return _text(self._forms, self._number, self._values) if self._forms else super().__str__()


def _said(forms: tuple[str, ...], number: int, values: Mapping[str, object] | None) -> LazyString:
    return LazyString(_text(forms, number, values), forms=forms, number=number, values=values)


def _text(forms: tuple[str, ...], number: int, values: Mapping[str, object] | None) -> str:
    messages = catalogue(current_language())
    found = messages.ngettext(*forms, number) if len(forms) == 2 else messages.gettext(*forms)
    if values is None:
        return found
    return found.format(
        **{k: str(v) if isinstance(v, LazyString) else v for k, v in values.items()}
    )


def _(message: str) -> str:
    """Return `message` in the language that is spoken."""
    return _said((message,), 1, None) if message else LazyString()


def ngettext(one: str, many: str, number: int) -> str:
    """Return `one` or `many`, whichever goes with `number`, in the language that is spoken."""
    return _said((one, many), number, None)


def N_(message: str) -> str:
    """Mark a message that is looked up later, where it is used; return it as it is."""
    return message


@cache
def catalogue(language: str) -> gettext.NullTranslations:
    """Return the messages of a language; English ones are the source's own."""
    if language == "en":
        return gettext.NullTranslations()
    return gettext.translation(DOMAIN, localedir=LOCALES, languages=[language])


def _known(language: str) -> str:
    return language if language in LANGUAGES else "en"


def _locale() -> str:
    """The first locale variable that is set, as language_COUNTRY: es_ES of es_ES.UTF-8@euro."""
    for name in _VARIABLES:
        if value := os.environ.get(name):
            bare = value.partition(":")[0].partition(".")[0].partition("@")[0]
            language, _separator, country = bare.partition("_")
            return f"{language.lower()}_{country.upper()}" if country else language.lower()
    return "en"


def _quality(parameters: list[str]) -> float:
    """The weight of a choice in Accept-Language: what its q says, else 1; 0 for a bad one."""
    for parameter in parameters:
        name, _separator, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
