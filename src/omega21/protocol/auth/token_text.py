"""The syntax of a token, checked without showing it; imports the standard library only.

A token is sent in an HTTP header, so it is printable ASCII; a space or line break in it is a
copying mistake. A notebook reads tokens before pydantic is installed, so `token` raises the errors.
"""

from typing import Final

from omega21.language import _

MOST_CHARACTERS: Final = 512

_FIRST: Final = "!"  # the printable characters of ASCII except the space
_LAST: Final = "~"


class Token(str):
    """A token that was checked; its repr does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return a text without the token."""
        return "Token('***')"


def check_token(text: str, *, source: str) -> Token:
    """Parse a token: 1 to 512 printable ASCII characters without spaces.

    Raises ValueError, which names the `source` and never the text.
    """
    if not text:
        raise ValueError(_("{source} is not a token: it is empty").format(source=source))
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            _("{source} is not a token: it has {count} characters, the limit is {most}").format(
                source=source, count=len(text), most=MOST_CHARACTERS
            )
        )
    for place, character in enumerate(text, start=1):
        if not _FIRST <= character <= _LAST:
            raise ValueError(
                _("{source} is not a token: character {place} of {count} is {what}").format(
                    source=source, place=place, count=len(text), what=_kind(character)
                )
            )
    return Token(text)


def check_token_file(data: bytes, *, source: str) -> Token:
    """Parse the token in a file: its only line, after an optional byte order mark.

    Windows editors and shells write such marks. Raises ValueError.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(
            _("{source} is not a token: it is not text").format(source=source)
        ) from None  # the cause holds the bytes
    return check_token(text.strip(), source=source)


def _kind(character: str) -> str:
    if character in "\r\n":
        return _("a line break")
    if character.isspace():
        return _("a space")
    return _("a control character") if character < " " or character == "\x7f" else _("not ASCII")
