"""Memory that the engine and an executor's process both see: a file in memory without a name.

It is cut into slots of one size, each for the tensors of one batch. The engine writes a slot while
the executor computes from another one.
"""

import mmap
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

SLOTS: Final = 3
"""One that is computed from, one that waits, and one that is written."""

_ALIGNED: Final = 64


class Span(NamedTuple):
    """Where a tensor lies in a slot."""

    name: str
    dtype: str
    shape: Sequence[int]
    offset: int


class SharedSlots:
    """The slots, as one of the two processes has them."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self._file = file
        self._map: mmap.mmap | None = None
        self.slot_bytes = 0

    @classmethod
    def create(cls) -> Self:
        """Make an empty file that only this user can read; the other process opens its path.

        Linux's memory without a name, since /dev/shm is small in many containers, and to write
        beyond it ends a process. Elsewhere a temporary file.
        """
        if sys.platform == "linux":
            descriptor = os.memfd_create("omega21-batches")
            path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        else:
            descriptor, name = tempfile.mkstemp(prefix="omega21-")
            path = Path(name)
        return cls(os.fdopen(descriptor, "r+b"), path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open what the other process created. Raises OSError."""
        return cls(path.open("r+b"), path)

    def forget_path(self) -> None:
        """Remove the name, once the other process has opened it."""
        if sys.platform != "linux":
            self.path.unlink()

    def grow(self, slot_bytes: int) -> None:
        """Make slots of at least so many bytes; none may be in use. Raises OSError."""
        slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        os.truncate(self._file.fileno(), slot_bytes * SLOTS)
        self.take_over(slot_bytes)

    def take_over(self, slot_bytes: int) -> None:
        """Map the file again, after the other process made it grow."""
        self.slot_bytes = slot_bytes
        self._map = mmap.mmap(self._file.fileno(), slot_bytes * SLOTS)

    def arrays(self, slot: int, spans: Sequence[Span]) -> dict[str, NDArray[np.generic]]:
        """Return the tensors of a slot, as views of the memory."""
        assert self._map is not None
        return {
            name: np.ndarray(
                shape, np.dtype(dtype), self._map, offset=slot * self.slot_bytes + offset
            )
            for name, dtype, shape, offset in spans
        }

    def memory(self) -> memoryview:
        """Return the memory of all slots."""
        assert self._map is not None
        return memoryview(self._map)

    def close(self) -> None:
        """Close the file; what has views of the memory keeps it."""
        self._file.close()


def layout(shapes: Mapping[str, tuple[str, Sequence[int]]]) -> tuple[list[Span], int]:
    """Lay tensors (name to dtype and shape) out in a slot; return also the bytes they take."""
    spans, offset = [], 0
    for name, (dtype, shape) in shapes.items():
        spans.append(Span(name, dtype, tuple(shape), offset))
        taken = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        offset += -(-taken // _ALIGNED) * _ALIGNED
    return spans, offset
