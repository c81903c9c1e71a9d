"""Decoding of replies within bounds of size, memory and time.

A server is not trusted to send small, fast or valid replies. A body is read up to a limit, decoded
up to a limit, and its values are counted before they become objects, which take about twenty times
the memory of their text.
"""

import errno
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import anyio
import httpx
import zstandard
from pydantic import BaseModel

from omega21.language import _
from omega21.protocol.checkpoints import MAX_CHECKPOINT_BYTES
from omega21.protocol.errors import InvalidCheckpoint, InvalidReply
from omega21.protocol.printable import printable

ACCEPTED_ENCODINGS: Final = "gzip, zstd"
"""The accepted encodings; others are refused."""

MAX_ERROR_BYTES: Final = 32 * 2**10
"""Maximum number of bytes that are read of an error reply."""

BYTES_PER_VALUE: Final = 20
"""Bytes of a reply for each value that it may contain."""

SENT_BYTES_PER_SECOND: Final = 2 * 2**10
RECEIVED_BYTES_PER_SECOND: Final = 8 * 2**10
"""Minimum rate of a call beyond its timeout; a slower one is cancelled."""

_WINDOW_BYTES: Final = 8 * 2**20
_DECODED_AT_ONCE: Final = 64 * 2**10
_MAX_INTEGER: Final = 2**63
_LARGEST_ERROR_COUNT: Final = 100
_STEP: Final = re.compile(r"[0-9]{1,16}")
_RANGE: Final = re.compile(r"bytes [0-9]{1,40}-[0-9]{1,40}/([0-9]{1,40})")
_LENGTH: Final = re.compile(r"[0-9]{1,40}")


class Deadline:
    """The deadline of a call: its timeout, and more time for each byte transferred.

    Enter `scope`; it is cancelled at the deadline. A read timeout alone would never end a reply
    that arrives one byte at a time.
    """

    def __init__(self, seconds: float, *, sent: int) -> None:
        self._at = anyio.current_time() + seconds + sent / SENT_BYTES_PER_SECOND
        self.scope = anyio.CancelScope(deadline=self._at)

    def received(self, size: int) -> None:
        """Extend the deadline for this number of bytes."""
        self._at += size / RECEIVED_BYTES_PER_SECOND
        self.scope.deadline = self._at


async def read_body(response: httpx.Response, *, most: int, deadline: Deadline) -> bytes:
    """Read and decode a reply; of an error reply, the beginning.

    Raises InvalidReply for a longer one, and for an encoding that was not requested.
    """
    if not response.is_success:
        most = MAX_ERROR_BYTES
    body = bytearray()
    async for chunk in response.aiter_raw():
        deadline.received(len(chunk))
        body += chunk
        if len(body) > most:
            break
    if not response.is_success:
        return _beginning(bytes(body[:most]), encoding_of(response))
    decoded = b"" if len(body) > most else decode(bytes(body), encoding_of(response), most=most)
    if len(body) > most or len(decoded) > most:
        raise InvalidReply(_("the reply has more than {most} bytes").format(most=most))
    return decoded


def encoding_of(response: httpx.Response) -> str:
    """Return a reply's content encoding; empty for none."""
    text: str = response.headers.get("content-encoding", "").strip().lower()
    return "" if text == "identity" else text


def decode(body: bytes, encoding: str, *, most: int) -> bytes:
    """Decode up to one byte more than `most`. Raises InvalidReply."""
    if not encoding or not body:
        return body
    try:
        if encoding == "gzip":
            return zlib.decompressobj(wbits=31).decompress(body, most + 1)
        if encoding == "zstd":
            return _from_zstd(body, most + 1)
    except (zlib.error, zstandard.ZstdError, MemoryError) as error:
        raise InvalidReply(_("the reply cannot be decoded")) from error
    raise not_asked_for(encoding)


def not_asked_for(encoding: str) -> InvalidReply:
    """Describe a reply in an encoding that the request did not name."""
    return InvalidReply(
        _("the reply is encoded as {encoding}, which was not asked for").format(
            encoding=printable(encoding, most=40)
        ),
        hint=_("a proxy or a scanner on the network path changes the server's replies"),
    )


def _from_zstd(body: bytes, most: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
    decoded = bytearray()
    with decompressor.stream_reader(body) as reader:
        while len(decoded) < most:
            piece = reader.read(min(_DECODED_AT_ONCE, most - len(decoded)))
            if not piece:
                break
            decoded += piece
    return bytes(decoded)


def _beginning(body: bytes, encoding: str) -> bytes:
    """Decode the beginning of an error's body; undecodable parts are ignored."""
    try:
        return decode(body, encoding, most=MAX_ERROR_BYTES)[:MAX_ERROR_BYTES]
    except InvalidReply:
        return b""


def check_values(body: bytes, *, most: int) -> None:
    """Raise InvalidReply when JSON has more values than a reply of `most` bytes may contain."""
    values = body.count(b",") + body.count(b"{") + body.count(b"[")
    if values > most // BYTES_PER_VALUE:
        raise InvalidReply(
            _("the reply has more than {most} values").format(most=most // BYTES_PER_VALUE)
        )


def is_telling(errors: int) -> bool:
    """Whether the errors of a reply are few enough to be converted to objects."""
    return errors <= _LARGEST_ERROR_COUNT


def check_numbers(reply: BaseModel) -> None:
    """Raise InvalidReply, naming the field, when a reply has an invalid number."""
    for name, value in reply.__dict__.items():
        for number in _numbers(value):
            if not _is_number(number):
                raise InvalidReply(
                    _("the field {field} of the reply is out of range").format(field=name)
                )


def _is_number(value: float) -> bool:
    if isinstance(value, int):
        return -_MAX_INTEGER <= value < _MAX_INTEGER
    return math.isfinite(value)


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, BaseModel):
        for field in value.__dict__.values():
            yield from _numbers(field)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)


def step_of(headers: httpx.Headers) -> int | None:
    """Return the step that a reply states; None if it states none."""
    text: str = headers.get("Omega21-Step", "")
    return int(text) if _STEP.fullmatch(text) else None


def announced_bytes(headers: httpx.Headers) -> int:
    """Return the size of a file whose download starts or continues.

    Raises InvalidCheckpoint when the reply does not state it, or it exceeds the limit.
    """
    ranged = _RANGE.fullmatch(headers.get("Content-Range", ""))
    text = ranged[1] if ranged else headers.get("Content-Length", "")
    if not _LENGTH.fullmatch(text):
        raise InvalidCheckpoint(
            _("a file arrived without its size"),
            hint=_("a proxy or a scanner on the network path changes the server's replies"),
        )
    if int(text) > MAX_CHECKPOINT_BYTES:
        raise InvalidCheckpoint(
            _("a file of {size} bytes was announced, the limit is {most}").format(
                size=int(text), most=MAX_CHECKPOINT_BYTES
            ),
            hint=_("it was discarded; check the server"),
        )
    return int(text)


def check_room(folder: Path, size: int) -> None:
    """Raise OSError when a folder's disk has not this number of free bytes."""
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def too_long() -> InvalidCheckpoint:
    """Return the error for a file that is larger than announced."""
    return InvalidCheckpoint(
        _("a file is larger than announced"),
        hint=_("it was discarded; check the server"),
    )
