"""Parsing of tokens: an invalid one is refused where it is read, and never shown."""

from omega21.language import _
from omega21.protocol.auth.token_text import Token, check_token, check_token_file
from omega21.protocol.errors import InvalidRequest


def parse_token(text: str, *, source: str) -> Token:
    """Parse a token. Raises InvalidRequest, which names the `source` and never the text."""
    try:
        return check_token(text, source=source)
    except ValueError as error:
        raise _refused(error) from None


def optional_token(text: str | None, *, source: str) -> Token | None:
    """Parse a token; None for no text or an empty one. Raises InvalidRequest."""
    return parse_token(text, source=source) if text else None


def token_of_file(data: bytes, *, source: str) -> Token:
    """Parse the token in a file's bytes. Raises InvalidRequest."""
    try:
        return check_token_file(data, source=source)
    except ValueError as error:
        raise _refused(error) from None


def _refused(error: ValueError) -> InvalidRequest:
    hint = _("a token is one word of ASCII characters: copy it again from where it was created")
    return InvalidRequest(str(error), hint=hint)
