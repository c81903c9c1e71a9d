"""Paths in JSON files, which are UTF-8 text, while a POSIX file name is any bytes."""

import os
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote_to_bytes

from pydantic import AfterValidator, PlainSerializer

_SCHEME: Final = "file://"


def _to_text(path: str) -> str:
    """Return an absolute path as it is; one that is not UTF-8, as its file URI."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def _from_text(text: str) -> str:
    if not text.startswith(_SCHEME):
        return text
    return os.fsdecode(unquote_to_bytes(text.removeprefix(_SCHEME)))


KeptPath = Annotated[str, AfterValidator(_from_text), PlainSerializer(_to_text)]
"""An absolute path that is stored in a file, whatever the encoding of its name."""
