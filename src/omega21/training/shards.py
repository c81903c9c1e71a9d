"""Shards on the server's disk: plain safetensors files, read by rows.

A shard is renamed into place and synced before `put` returns. Rows are read with `pread` and not
through a memory map, so that a data set of any size does not count as this process's memory.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omega21.data.durable import write_durably
from omega21.language import _
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import InvalidShard, StorageFull, UnknownShard
from omega21.protocol.shards import Tensors, TensorSpan, pack, read_header, unpack

MINIMUM_AGE_SECONDS = 3600.0
"""An unpinned shard stays at least this long after its last use."""

_OPEN_FILES = 128
_HEADER_READ = 65_536 + 8


@dataclass
class _Stored:
    bytes: int
    last_used: float
    checked: bool = False
    spans: dict[str, TensorSpan] | None = None
    """Once it was open: later epochs open files in no order, and reading a header takes longer
    than opening the file."""


@dataclass
class _Opened:
    """An open shard; closed when nothing refers to it any more."""

    descriptor: int
    spans: dict[str, TensorSpan]
    samples: int

    def __del__(self) -> None:
        os.close(self.descriptor)


@dataclass
class ShardStore:
    """The shards of one data folder, at most `limit` bytes of them. Thread-safe."""

    folder: Path
    limit: int
    clock: Callable[[], float] = time.monotonic
    _stored: dict[str, _Stored] = field(default_factory=dict)
    _total: int = 0
    _open: OrderedDict[str, _Opened] = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        now = self.clock()
        for path in self.folder.glob("??/*"):
            if path.suffix == ".safetensors":
                self._keep(path.stem, _Stored(path.stat().st_size, now))
            else:
                path.unlink()  # a temporary file that a killed process left

    def __contains__(self, sha256: str) -> bool:
        with self._lock:
            stored = self._stored.get(sha256)
            if stored is not None:
                stored.last_used = self.clock()
            return stored is not None

    def put(self, sha256: str, tensors: Tensors, *, pinned: Callable[[], set[str]]) -> bool:
        """Store a shard under its name; False when it was there. On return it is on disk.

        Shards not in `pinned()` make room, least recently used first, once they are old enough.
        Raises InvalidShard when the content is not what the name says, StorageFull.
        """
        if sha256 in self:
            return False
        actual = tensors_sha256(tensors)
        if actual != sha256:
            raise InvalidShard(
                _("the content's digest is {actual}, the shard was named {sha256}").format(
                    actual=actual, sha256=sha256
                ),
                hint=_("it was damaged on its way, or named wrongly; send it again"),
            )
        data = pack(tensors)
        if self.total_bytes + len(data) > self.limit:
            kept = pinned()  # before the lock is taken: it takes the registry's
            with self._lock:
                self._make_room(len(data), kept)
        path = self._path(sha256)
        try:
            path.parent.mkdir(exist_ok=True)
            write_durably(path, [data])
        except OSError as error:
            raise StorageFull(
                _("writing shard {sha256} failed: {error}").format(
                    sha256=sha256[:12], error=error.strerror
                ),
                retry_after=30,
            ) from error
        with self._lock:
            self._keep(sha256, _Stored(len(data), self.clock(), checked=True))
        return True

    def samples(self, sha256: str) -> int:
        """Return how many samples a shard holds. Raises UnknownShard."""
        return self._opened(sha256).samples

    def spans(self, sha256: str) -> dict[str, TensorSpan]:
        """Return the types and shapes of a shard's tensors. Raises UnknownShard."""
        return self._opened(sha256).spans

    def read(self, sha256: str, name: str, *, rows: range) -> NDArray[np.generic]:
        """Read consecutive rows of one tensor, as a new array. Raises UnknownShard."""
        opened = self._opened(sha256)
        span = opened.spans[name]
        row = span.nbytes // opened.samples
        out = np.empty((len(rows), *span.shape[1:]), dtype=span.dtype)
        read = os.preadv(opened.descriptor, [out.data], span.offset + rows.start * row)
        self._check_read(sha256, read, of=out.nbytes)
        return out

    def read_rows(self, sha256: str, name: str, *, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Read single rows of one tensor, as a new array. Raises UnknownShard."""
        opened = self._opened(sha256)
        span = opened.spans[name]
        if len(span.shape) == 1:  # labels: the whole is less than a call to the system for each
            return self.read(sha256, name, rows=range(opened.samples))[rows]
        row = span.nbytes // opened.samples
        out = np.empty((len(rows), *span.shape[1:]), dtype=span.dtype)
        read = sum(
            os.preadv(opened.descriptor, [out[place].data], span.offset + number * row)
            for place, number in enumerate(rows.tolist())
        )
        self._check_read(sha256, read, of=out.nbytes)
        return out

    def _check_read(self, sha256: str, read: int, *, of: int) -> None:
        if read != of:
            with self._lock:
                self._forget(sha256)
            raise UnknownShard(
                _("shard {sha256} is cut short on the server's disk").format(sha256=sha256)
            )

    @property
    def total_bytes(self) -> int:
        """Bytes of all shards."""
        return self._total

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / f"{sha256}.safetensors"

    def _opened(self, sha256: str) -> _Opened:
        with self._lock:
            opened = self._open.get(sha256)
            if opened is not None:
                self._open.move_to_end(sha256)
                return opened
            stored = self._stored.get(sha256)
            if stored is None:
                raise UnknownShard(_("shard {sha256} is not on this server").format(sha256=sha256))
            stored.last_used = self.clock()
            if not stored.checked:
                self._check(sha256)
                stored.checked = True
            try:
                opened = _open_file(self._path(sha256), stored.spans)
                stored.spans = opened.spans
            except (InvalidShard, OSError) as error:
                self._forget(sha256)
                raise UnknownShard(
                    _("shard {sha256} cannot be read and is gone: {error}").format(
                        sha256=sha256, error=error
                    )
                ) from error
            self._open[sha256] = opened
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
            return opened

    def _check(self, sha256: str) -> None:
        """Compare a file that an earlier process wrote with its name; forget a damaged one."""
        try:
            tensors, _metadata = unpack(self._path(sha256).read_bytes())
            sound = tensors_sha256(tensors) == sha256
        except (InvalidShard, OSError):
            sound = False
        if not sound:
            self._forget(sha256)
            raise UnknownShard(
                _("shard {sha256} was damaged on the server's disk and is gone").format(
                    sha256=sha256
                )
            )

    def _keep(self, sha256: str, stored: _Stored) -> None:
        before = self._stored.get(sha256)  # of an upload of the same shard at the same time
        self._total += stored.bytes - (before.bytes if before else 0)
        self._stored[sha256] = stored

    def _forget(self, sha256: str) -> None:
        self._open.pop(sha256, None)
        forgotten = self._stored.pop(sha256, None)
        self._total -= forgotten.bytes if forgotten else 0
        self._path(sha256).unlink(missing_ok=True)

    def _make_room(self, size: int, kept: set[str]) -> None:
        excess = self.total_bytes + size - self.limit
        oldest = self.clock() - MINIMUM_AGE_SECONDS
        for sha256, stored in sorted(self._stored.items(), key=lambda item: item[1].last_used):
            if excess <= 0:
                return
            if sha256 not in kept and stored.last_used < oldest:
                self._forget(sha256)
                excess -= stored.bytes
        if excess > 0:
            raise StorageFull(
                _("the shards here take {taken} of {limit} bytes").format(
                    taken=self.total_bytes, limit=self.limit
                ),
                retry_after=30,
            )


def _open_file(path: Path, spans: dict[str, TensorSpan] | None) -> _Opened:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if spans is None:
            start = os.pread(descriptor, _HEADER_READ, 0)
            spans, _metadata = read_header(start, os.fstat(descriptor).st_size)
    except BaseException:
        os.close(descriptor)
        raise
    return _Opened(descriptor, spans, next(iter(spans.values())).shape[0])
