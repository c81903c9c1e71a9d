"""Shards on the server's disk: plain safetensors files, read by rows.

A shard is renamed into place and synced before `put` returns. Rows are read with `pread` and not
through a memory map, so that a data set of any size does not count as this process's memory.
"""

import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from omega21.data.durable import make_private_folder, write_durably
from omega21.data.failures import refused_write
from omega21.language import _
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import InvalidShard, StorageFull, UnknownShard
from omega21.protocol.shards import Tensors, TensorSpan, pack, read_header, unpack

MINIMUM_AGE_SECONDS = 3600.0
"""Minimum time for which an unpinned shard is kept after its last use."""

_HEADER_READ = 65_536 + 8
_MOST_KEPT = 128 * 2**10
"""Maximum size of a column that is kept in memory while its shard is open, in bytes."""


@dataclass
class _Stored:
    bytes: int
    last_used: float
    checked: bool = False
    spans: dict[str, TensorSpan] | None = None
    """Cached headers: later epochs open files in random order, and reading a header takes longer
    than opening the file."""


class Shard:
    """An open shard, read by rows; closed when nothing refers to it any more.

    Its methods raise UnknownShard if the file is truncated.
    """

    def __init__(
        self, descriptor: int, spans: dict[str, TensorSpan], *, cut_short: Callable[[], NoReturn]
    ) -> None:
        self.spans = spans
        self.samples = next(iter(spans.values())).shape[0]
        self._descriptor = descriptor
        self._cut_short = cut_short
        self._row_bytes = {name: span.nbytes // self.samples for name, span in spans.items()}
        self._columns: dict[str, NDArray[np.generic]] = {}

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, name: str, *, rows: int | None = None) -> NDArray[np.generic]:
        """Read the first `rows` rows of a tensor, or all of it, as a new array."""
        span = self.spans[name]
        out = np.empty((self.samples if rows is None else rows, *span.shape[1:]), span.dtype)
        self.read_into(name, 0, out)
        return out

    def read_into(self, name: str, row: int, out: NDArray[np.generic]) -> None:
        """Fill `out` with a tensor's items from a row on, converted to its type."""
        span = self.spans[name]
        stored = out if out.dtype == span.dtype else np.empty(out.shape, span.dtype)
        start = span.offset + row * self._row_bytes[name]
        if os.preadv(self._descriptor, (stored.data,), start) != stored.nbytes:
            self._cut_short()
        if stored is not out:
            out[...] = stored

    def item(self, name: str, row: int) -> np.generic:
        """Return a sample's number of a tensor with one number for each, such as the labels.

        The whole tensor is kept while the shard is open, where it is small: a system call for each
        number is too slow.
        """
        column = self._columns.get(name)
        if column is None:
            span = self.spans[name]
            if span.nbytes > _MOST_KEPT:
                only = np.empty(1, span.dtype)
                self.read_into(name, row, only)
                return cast("np.generic", only[0])
            column = self._columns[name] = self.read(name)
        return cast("np.generic", column[row])


@dataclass
class ShardStore:
    """The shards of one data folder, of at most `limit` bytes. Thread-safe.

    The most recently used stay open, at most `open_files` of them.
    """

    folder: Path
    limit: int
    open_files: int = 128
    clock: Callable[[], float] = time.monotonic
    _stored: dict[str, _Stored] = field(default_factory=dict)
    _total: int = 0
    _open: OrderedDict[str, Shard] = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        now = self.clock()
        for path in self.folder.glob("??/*"):
            if path.suffix == ".safetensors":
                self._keep(path.stem, _Stored(path.stat().st_size, now))
            else:
                path.unlink()  # a temporary file of a killed process

    def __contains__(self, sha256: str) -> bool:
        with self._lock:
            stored = self._stored.get(sha256)
            if stored is not None:
                stored.last_used = self.clock()
            return stored is not None

    def put(self, sha256: str, tensors: Tensors, *, pinned: Callable[[], set[str]]) -> bool:
        """Store a shard under its digest; False when it exists. It is on disk on return.

        Shards not in `pinned()` make room, least recently used first, once they are old enough.
        Raises InvalidShard when the content does not match the digest, StorageFull.
        """
        if sha256 in self:
            return False
        actual = tensors_sha256(tensors)
        if actual != sha256:
            raise InvalidShard(
                _("the content's digest is {actual}, the shard was named {sha256}").format(
                    actual=actual, sha256=sha256
                ),
                hint=_("it was damaged in transit, or has a wrong name; send it again"),
            )
        data = pack(tensors)
        if self.total_bytes + len(data) > self.limit:
            kept = pinned()  # before taking the lock: it takes the registry's
            with self._lock:
                self._make_room(len(data), kept)
        path = self._path(sha256)
        try:
            make_private_folder(path.parent)
            write_durably(path, [data])
        except OSError as error:
            text = _("writing shard {sha256} failed: {error}").format(
                sha256=sha256[:12], error=error.strerror
            )
            raise refused_write(error, text) from error
        with self._lock:
            self._keep(sha256, _Stored(len(data), self.clock(), checked=True))
        return True

    def open(self, sha256: str) -> Shard:
        """Return a shard to read from. Raises UnknownShard."""
        with self._lock:
            stored = self._stored.get(sha256)
            if stored is None:
                raise UnknownShard(_("shard {sha256} is not on this server").format(sha256=sha256))
            stored.last_used = self.clock()
            shard = self._open.get(sha256)
            if shard is None:
                if not stored.checked:
                    self._check(sha256)
                    stored.checked = True
                shard = self._open[sha256] = self._open_file(sha256, stored)
                if len(self._open) > self.open_files:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(sha256)
            return shard

    @property
    def total_bytes(self) -> int:
        """Size of all shards in bytes."""
        return self._total

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / f"{sha256}.safetensors"

    def _open_file(self, sha256: str, stored: _Stored) -> Shard:
        try:
            descriptor, stored.spans = _open_file(self._path(sha256), stored.spans)
        except (InvalidShard, OSError) as error:
            if _is_no_fault_of_the_file(error):
                raise
            self._forget(sha256)
            raise UnknownShard(
                _("shard {sha256} cannot be read and was removed: {error}").format(
                    sha256=sha256, error=error
                )
            ) from error
        return Shard(descriptor, stored.spans, cut_short=partial(self._cut_short, sha256))

    def _cut_short(self, sha256: str) -> NoReturn:
        with self._lock:
            self._forget(sha256)
        raise UnknownShard(
            _("shard {sha256} is truncated on the server's disk").format(sha256=sha256)
        )

    def _check(self, sha256: str) -> None:
        """Compare a file of an earlier process with its digest; forget a damaged one."""
        try:
            tensors, _metadata = unpack(self._path(sha256).read_bytes())
            sound = tensors_sha256(tensors) == sha256
        except (InvalidShard, OSError) as error:
            if _is_no_fault_of_the_file(error):
                raise
            sound = False
        if not sound:
            self._forget(sha256)
            raise UnknownShard(
                _("shard {sha256} was damaged on the server's disk and was removed").format(
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
                _("the shards on this server take {taken} of {limit} bytes").format(
                    taken=self.total_bytes, limit=self.limit
                ),
                retry_after=30,
            )


def _open_file(
    path: Path, spans: dict[str, TensorSpan] | None
) -> tuple[int, dict[str, TensorSpan]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if spans is None:
            start = os.pread(descriptor, _HEADER_READ, 0)
            spans, _metadata = read_header(start, os.fstat(descriptor).st_size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, spans


def _is_no_fault_of_the_file(error: Exception) -> bool:
    """Whether this process or the system has run out of files or memory."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
