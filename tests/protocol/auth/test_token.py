"""One type of token: what is none is refused where it comes in, and never shown."""

import pytest

from omega21.protocol.auth.token import optional_token, parse_token, token_of_file
from omega21.protocol.auth.token_text import MOST_CHARACTERS
from omega21.protocol.errors import InvalidRequest

SECRET = "s3cret-part"

NO_TOKENS = {
    "blank": " ",
    "blanks around": f" {SECRET} ",
    "blank inside": f"{SECRET} {SECRET}",
    "tab": f"{SECRET}\t",
    "CR": f"{SECRET}\r",
    "LF": f"{SECRET}\n",
    "line inside": f"{SECRET}\n{SECRET}",
    "NUL": f"{SECRET}\0",
    "escape": f"{SECRET}\x1b[2J",
    "ellipsis": f"{SECRET}…",
    "no-break blank": f"{SECRET}\u00a0",
    "mark of the byte order": f"\ufeff{SECRET}",
    "letter": f"{SECRET}ñ",
    "lone surrogate": f"{SECRET}\udcff",
    "too long": SECRET * MOST_CHARACTERS,
}


@pytest.mark.parametrize("text", NO_TOKENS.values(), ids=NO_TOKENS)
def test_what_is_no_token_is_refused_unseen(text: str) -> None:
    with pytest.raises(InvalidRequest, match="the flag is not a token") as caught:
        parse_token(text, source="the flag")
    said = f"{caught.value}{caught.value!r}{caught.value.__context__!r}"
    assert SECRET not in said
    assert str(caught.value).isprintable()


def test_a_token_is_itself_and_does_not_show() -> None:
    token = parse_token(SECRET, source="the flag")
    assert token == SECRET
    assert SECRET not in repr(token)
    assert SECRET not in repr({"token": token})


def test_none_is_none() -> None:
    assert optional_token(None, source="the flag") is None
    assert optional_token("", source="the flag") is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_may_begin_with_a_byte_order_mark(encoding: str, end: str) -> None:
    assert token_of_file(f"{SECRET}{end}".encode(encoding), source="the file") == SECRET


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\xef\xbb\xbf\n", b"\xff\xfe\x00", b"s3cret-part\xff"]
)
def test_a_file_without_a_token_is_refused_unseen(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the file") as caught:
        token_of_file(data, source="the file")
    assert SECRET not in f"{caught.value}{caught.value.__context__!r}"
