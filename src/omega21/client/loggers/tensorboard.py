"""TensorBoard event files in the run folder's `tensorboard/`: `tensorboard --logdir FOLDER`.

An event file is a row of records: length (8 bytes), its checksum, an `Event` protocol buffer, its
checksum, all little-endian; the checksum is a CRC-32C, rotated and offset. An `Event` of ours has
wall_time (1, double), step (2, varint) and summary (5) of values (1) with tag (1) and simple_value
(2, float). They are written here because TensorBoard's library imports torch if it is
installed, which takes seconds and a few hundred MB for four fields.
"""

import os
import socket
import struct
import time
from collections.abc import Sequence
from typing import IO, Final

from omega21.client.loggers import LoggedRun, Logger, Point
from omega21.data.durable import make_private_folder, open_private

_POLYNOMIAL: Final = 0x82F63B78
_VERSION: Final = b"brain.Event:2"


class TensorBoard:
    """Writes one event file for each training; TensorBoard shows them as one run."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def start(self, run: LoggedRun) -> None:
        """Create a file with a unique name."""
        folder = run.folder / "tensorboard"
        make_private_folder(folder)
        now = time.time_ns()
        name = f"events.out.tfevents.{now // 10**9:010d}.{socket.gethostname()}.{os.getpid()}.{now}"
        self._file = open_private(folder / name, "xb")
        self._write([_field(1, 1, struct.pack("<d", now / 1e9)) + _bytes(3, _VERSION)])

    def log(self, points: Sequence[Point]) -> None:
        """Append points; they are written to the file on return."""
        self._write([_event(point) for point in points])

    def finish(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, events: list[bytes]) -> None:
        assert self._file is not None
        self._file.write(b"".join(map(_record, events)))
        self._file.flush()


def make() -> Logger:
    """Return the logger."""
    return TensorBoard()


def _event(point: Point) -> bytes:
    values = [
        _bytes(1, _bytes(1, name.encode()) + _field(2, 5, struct.pack("<f", value)))
        for name, value in point.metrics.items()
    ]
    head = _field(1, 1, struct.pack("<d", point.ended_at)) + _field(2, 0, _varint(point.step))
    return head + _bytes(5, b"".join(values))


def _field(number: int, kind: int, content: bytes) -> bytes:
    return _varint(number << 3 | kind) + content


def _bytes(number: int, content: bytes) -> bytes:
    return _field(number, 2, _varint(len(content)) + content)


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + _checksum(length) + event + _checksum(event)


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _table() -> tuple[int, ...]:
    """Table of the CRC-32C (Castagnoli) of every byte, lowest bit first."""
    remainders = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        remainders.append(crc)
    return tuple(remainders)


_TABLE: Final = _table()
