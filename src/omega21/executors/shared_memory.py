"""Memory that the engine and an executor's process both see: a file that has no name for long.

It is cut into slots of one size, each for the tensors of one batch. The engine writes a slot while
the executor computes from another one.
"""

import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SLOTS: Final = 3
"""One that is computed from, one that waits, and one that is written."""

_ALIGNED: Final = 64
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - Linux's folder in memory; the file is 0600


class Span(NamedTuple):
    """Where a tensor lies in a slot."""

    name: str
    dtype: str
    shape: Sequence[int]
    offset: int


class SharedSlots:
    """The slots, as one of the two processes has them."""

    def __init__(self, path: Path, *, slot_bytes: int = 0) -> None:
        self._file = path.open("r+b")
        self._map: mmap.mmap | None = None
        self.slot_bytes = slot_bytes
        if slot_bytes:
            self.take_over(slot_bytes)

    @classmethod
    def create(cls) -> tuple["SharedSlots", Path]:
        """Make an empty file that only this user can read; its path is for the other process."""
        folder = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
        descriptor, name = tempfile.mkstemp(prefix="omega21-", dir=folder)
        os.close(descriptor)
        return cls(Path(name)), Path(name)

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
