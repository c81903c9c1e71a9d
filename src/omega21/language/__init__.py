"""Translation of messages for people: English and Spanish.

`_("{count} steps left").format(count=3)`: the message is looked up, then its placeholders are
filled in. Output for programs (JSON, logs, codes, names on the wire) is never translated.

A program chooses its language once (`choose_language`). On a server each request has its own
(`speaking`); threads that work for the request inherit it with the context, and a message created
in another thread is translated again in it (`LazyString`). Without a choice, as for a library in
another program, messages are in English.

    language/borrowed.py   translation of messages of typer and pydantic, which are in English only
    language/figures.py    numbers and dates in the format of the locale
    locales/               the catalogue; `make messages` updates it
"""

import gettext
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Self

LANGUAGES = ("en", "es")
DOMAIN = "omega21"
LOCALES = Path(__file__).parent.parent / "locales"

_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")  # in gettext's order
_of_program = "en"
_of_context: ContextVar[str | None] = ContextVar("language", default=None)


def choose_language(language: str | None = None) -> str:
    """Set the program's language, by default the locale's, and return it.

    Any locale but a Spanish one gives English.
    """
    global _of_program  # noqa: PLW0603  # one language for the whole process, as with a locale
    _of_program = _known(language or language_of_locale())
    return _of_program


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Set the language of this context only: this request, this thread, this block."""
    before = _of_context.set(_known(language))
    try:
        yield
    finally:
        _of_context.reset(before)


def current_language() -> str:
    """Return the language of the current context."""
    return _of_context.get() or _of_program


def language_of_locale() -> str:
    """Return the language of the first locale variable that is set; English if none is."""
    return _known(_locale().partition("_")[0])


def current_locale() -> str:
    """Return the current language, with the country if the locale has one: es_MX.

    The formats of numbers and dates depend on the country.
    """
    language, locale = current_language(), _locale()
    return locale if locale.partition("_")[0] == language else language


def accepted_language(header: str) -> str:
    """Return the preferred language of an Accept-Language header; English if there is none."""
    best, most = "en", 0.0
    for choice in header.split(","):
        tag, *parameters = choice.split(";")
        language, liked = tag.strip().lower().partition("-")[0], _quality(parameters)
        if language in LANGUAGES and liked > most:
            best, most = language, liked
    return best


class LazyString(str):
    """A message in the language of the context that created it, which can be translated again.

    It is a `str`; `str(message)` translates it to the language of the current context: English in
    a log, the caller's language in a reply, whichever thread has created it.
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
        """Create a message with the current `text`, from its msgids and its values."""
        said = super().__new__(cls, text)
        said._forms, said._number, said._values = forms, number, values
        return said

    def format(self, *_args: object, **values: object) -> "LazyString":
        """Fill in the named placeholders."""
        return _said(self._forms, self._number, values)

    def parts(self) -> dict[str, object]:
        """Return what another process makes the message of, as JSON has it; see `of_parts`."""
        return {
            "text": str.__str__(self),
            "forms": list(self._forms),
            "number": self._number,
            "values": self._values and {k: _part(v) for k, v in self._values.items()},
        }

    @classmethod
    def of_parts(cls, parts: str | Mapping[str, Any]) -> str:
        """Make a message of its `parts`, in the current language; a plain text stays as it is."""
        if isinstance(parts, str):
            return parts
        if not parts["forms"]:
            return str(parts["text"])
        values = parts["values"]
        if values is not None:
            values = {k: cls.of_parts(v) if isinstance(v, dict) else v for k, v in values.items()}
        return _said(tuple(parts["forms"]), parts["number"], values)

    def __str__(self) -> str:
        return _text(self._forms, self._number, self._values) if self._forms else super().__str__()


def message_parts(text: str) -> str | dict[str, object]:
    """Return the parts of a message that can be translated again, and a plain text as it is."""
    return text.parts() if isinstance(text, LazyString) else text


def _part(value: object) -> object:
    if isinstance(value, LazyString):
        return value.parts()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


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
    """Return `message` in the current language."""
    return _said((message,), 1, None) if message else LazyString()


def ngettext(one: str, many: str, number: int) -> str:
    """Return `one` or `many`, by the plural form of `number`, in the current language."""
    return _said((one, many), number, None)


def N_(message: str) -> str:
    """Mark a message for extraction; it is returned unchanged and looked up where it is used."""
    return message


@cache
def catalogue(language: str) -> gettext.NullTranslations:
    """Return the messages of a language; the English ones are those of the source."""
    if language == "en":
        return gettext.NullTranslations()
    return gettext.translation(DOMAIN, localedir=LOCALES, languages=[language])


def _known(language: str) -> str:
    return language if language in LANGUAGES else "en"


def _locale() -> str:
    """Return the first locale variable that is set, as language_COUNTRY, such as es_ES."""
    for name in _VARIABLES:
        if value := os.environ.get(name):
            bare = value.partition(":")[0].partition(".")[0].partition("@")[0]
            language, _separator, country = bare.partition("_")
            return f"{language.lower()}_{country.upper()}" if country else language.lower()
    return "en"


def _quality(parameters: list[str]) -> float:
    """Return the weight of a choice in Accept-Language: its q, by default 1; 0 if malformed."""
    for parameter in parameters:
        name, _separator, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
