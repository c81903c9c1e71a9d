"""Messages between the engine and an executor's process: a JSON head, then arrays as raw bytes.

Both ends are ours and on one machine: numbers travel as Python writes them (NaN too), and nothing
is pickled. A message is written whole by one thread at a time.
"""

import json
import struct
import threading
from collections.abc import Mapping
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

Head = dict[str, Any]
Arrays = dict[str, NDArray[np.generic]]

_LENGTH: Final = struct.Struct("<I")


class Channel:
    """One end of a pair of pipes."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader = reader
        self._writer = writer
        self._writing = threading.Lock()

    def send(self, head: Head, arrays: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        """Send a message. Raises OSError where the other end is gone."""
        held = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
        listed = [[name, array.dtype.str, array.shape] for name, array in held.items()]
        text = json.dumps({**head, "arrays": listed} if listed else head).encode()
        with self._writing:
            self._writer.write(_LENGTH.pack(len(text)) + text)
            for array in held.values():
                self._writer.write(array.data.cast("B") if array.size else b"")
            self._writer.flush()

    def receive(self) -> tuple[Head, Arrays]:
        """Wait for the next message. Raises EOFError where the other end is gone."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        head: Head = json.loads(self._exactly(length))
        arrays = {}
        for name, dtype, shape in head.pop("arrays", ()):
            arrays[name] = np.empty(shape, np.dtype(dtype))
            self._fill(arrays[name])
        return head, arrays

    def _exactly(self, count: int) -> bytes:
        data = self._reader.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def _fill(self, array: NDArray[np.generic]) -> None:
        if not array.size:
            return
        rest = array.data.cast("B")
        while rest:
            count = self._reader.readinto(rest)  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            rest = rest[count:]

    def close(self) -> None:
        """Close both pipes."""
        for stream in (self._writer, self._reader):
            try:
                stream.close()
            except OSError:  # what was still to be flushed has no reader any more
                continue
