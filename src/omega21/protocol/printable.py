"""Text from elsewhere, made safe to show in a terminal, a browser or a log."""

import unicodedata
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Controls, formats (the bidirectional among them), lone surrogates, private use, separators."""
_JOINERS: Final = "\u200c\u200d"
"""Persian and Indic words, and emoji, are written with these; they change no order and no line."""


def printable(text: str, *, most: int | None = None) -> str:
    r"""Return the text on one line with every control and bidirectional character as its escape.

    An escape is written as Python writes it: `\x1b`, `\n`, `\u202e`. Nothing else changes. A
    text longer than `most` characters is truncated and ends in an ellipsis.
    """
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def printable_lines(text: str) -> str:
    """Return the text as `printable` does, with its line breaks kept."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _shown(character: str) -> str:
    if unicodedata.category(character) in _UNSEEN and character not in _JOINERS:
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character
