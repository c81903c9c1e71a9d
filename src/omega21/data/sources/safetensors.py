"""Tensors of a `.safetensors` file whose rows are read on demand.

The file is read, not mapped into memory: a mapped file that another program truncates kills the
process that reads it (SIGBUS). A file that changes while it is read is an error instead.
Format: https://github.com/huggingface/safetensors#format
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from omega21.language import _
from omega21.protocol.errors import InvalidDataFile

MAX_HEADER_BYTES: Final = 100_000_000
"""Longest header that the format allows."""
_BFLOAT16: Final = "BF16"
_DTYPES: Final = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    _BFLOAT16: np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}


class UnchangedFile:
    """A file that is opened for each read, and has to be unchanged since the first one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._first = _identity(path.stat())
        self.size = self._first[0]

    def read(self, *spans: tuple[int, int]) -> bytes:
        """Read spans (offset, size) and join them.

        Raises InvalidDataFile when the file has changed since it was opened first, OSError.
        """
        pieces = []
        with self.path.open("rb") as file:
            for offset, size in spans:
                file.seek(offset)
                pieces.append(file.read(size))
            now = _identity(os.fstat(file.fileno()))
        if now != self._first or sum(map(len, pieces)) != sum(size for _offset, size in spans):
            raise InvalidDataFile(
                _("{path} changed while it was read").format(path=self.path),
                hint=_("wait until it is written, then run the command again"),
            )
        return b"".join(pieces)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class FileTensor:
    """A tensor [n, …] in a file; indexing reads the given rows, in the order given.

    bfloat16 is converted to float32, exactly.
    """

    file: UnchangedFile
    offset: int
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    is_bfloat16: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of what is read."""
        return np.dtype(np.float32) if self.is_bfloat16 else self.stored

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        """The number of rows."""
        return self.shape[0] if self.shape else 0

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Read rows. Raises InvalidDataFile when the file has changed."""
        numbers = np.arange(len(self))[rows]
        width = prod(self.shape[1:]) * self.stored.itemsize
        # Adjacent rows are read with one call.
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        spans = (
            (self.offset + int(run[0]) * width, len(run) * width)
            for run in np.split(numbers, breaks)
            if len(run)
        )
        items = np.frombuffer(self.file.read(*spans), dtype=self.stored)
        if self.is_bfloat16:
            items = (items.astype(np.uint32) << 16).view(np.float32)
        return items.reshape(len(numbers), *self.shape[1:])


def read_safetensors(path: Path, wanted: Sequence[str] | None) -> Mapping[str, FileTensor]:
    """Find the wanted tensors that the file has, or all; others may be of any type.

    Raises InvalidDataFile, OSError.
    """
    file = UnchangedFile(path)
    try:
        header, base = _read_header(file)
        if wanted is None:
            wanted = [name for name in header if name != "__metadata__"]
        return {
            name: _tensor(file, name, header[name], base=base) for name in wanted if name in header
        }
    except ValueError as error:  # includes errors of JSON and UTF-8
        raise InvalidDataFile(
            _("{name} is not a safetensors file: {reason}").format(
                name=path.name, reason=str(error)[:200]
            ),
            hint=_("write it again with safetensors.numpy.save_file"),
        ) from error


def _read_header(file: UnchangedFile) -> tuple[dict[str, Any], int]:
    if file.size < 8:
        raise ValueError(_("it has {size} bytes").format(size=file.size))
    length = int.from_bytes(file.read((0, 8)), "little")
    if length > min(MAX_HEADER_BYTES, file.size - 8):
        raise ValueError(_("its header claims {length} bytes").format(length=length))
    try:
        match json.loads(file.read((8, length)).decode("utf-8")):
            case dict() as header:
                return header, 8 + length
    except RecursionError as error:
        raise ValueError(_("its header is nested too deep")) from error
    raise ValueError(_("its header is not an object"))


def _tensor(file: UnchangedFile, name: str, entry: Any, *, base: int) -> FileTensor:
    described = entry if isinstance(entry, dict) else {}
    shape, offsets = _counts(described.get("shape")), _counts(described.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise ValueError(_("tensor {name!r} has no valid shape or offsets").format(name=name))
    kind = str(described.get("dtype"))
    stored = _DTYPES.get(kind)
    if stored is None:
        raise InvalidDataFile(
            _("tensor {name} of {file} has type {kind}").format(
                name=name, file=file.path.name, kind=kind[:20]
            ),
            hint=_("convert it to float32 and write the file again"),
        )
    begin, end = offsets
    if begin > end or end - begin != prod(shape) * stored.itemsize or base + end > file.size:
        raise ValueError(_("tensor {name!r} does not fit in the file").format(name=name))
    return FileTensor(file, base + begin, shape, stored, kind == _BFLOAT16)


def _counts(value: Any) -> tuple[int, ...] | None:
    """Return a list of natural numbers as a tuple; None for anything else."""
    if not isinstance(value, list):
        return None
    if not all(type(item) is int and 0 <= item < 2**48 for item in value):
        return None
    return tuple(value)
