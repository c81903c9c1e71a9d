"""What a token is made of, checked without showing any of it; imports the standard library alone.

A token travels in a header of HTTP, so it has printable ASCII alone; a blank or a line's end in it
is a slip of copying. A notebook reads its tokens before pydantic is there: `token` has the errors.
"""

from typing import Final

from omega21.language import _

MOST_CHARACTERS: Final = 512

_FIRST: Final = "!"  # of ASCII's printable characters, the blank left out
_LAST: Final = "~"


class Token(str):
    """A token that was checked; its repr does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Say what it is, not which."""
        return "Token('***')"


def check_token(text: str, *, source: str) -> Token:
    """Return the token that `text` is: 1 to 512 characters of printable ASCII, and no blank.

    Raises ValueError, which names the `source` and never the text.
    """
    if not text:
        raise ValueError(_("{source} does not hold a token: it is empty").format(source=source))
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            _("{source} does not hold a token: it has {count} characters, at most {most}").format(
                source=source, count=len(text), most=MOST_CHARACTERS
            )
        )
    for place, character in enumerate(text, start=1):
        if not _FIRST <= character <= _LAST:
            raise ValueError(
                _("{source} does not hold a token: character {place} of {count} is {what}").format(
                    source=source, place=place, count=len(text), what=_kind(character)
                )
            )
    return Token(text)


def check_token_file(data: bytes, *, source: str) -> Token:
    """Return the token of a file: its only line, after a byte order mark if it has one.

    Windows' editors and shells write such marks. Raises ValueError.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(
            _("{source} does not hold a token: it is no text").format(source=source)
        ) from None  # the cause holds the bytes
    return check_token(text.strip(), source=source)


def _kind(character: str) -> str:
    if character in "\r\n":
        return _("a line's end")
    if character.isspace():
        return _("a blank")
    return _("a control character") if character < " " or character == "\x7f" else _("not ASCII")
