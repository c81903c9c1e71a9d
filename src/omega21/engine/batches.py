"""Batches: the samples of a step, their shards, and whether these are on disk."""

import time
import weakref
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omega21.data.order import batch_of_step, epoch_order
from omega21.engine.storage.shards import ShardStore
from omega21.executors.base import Batch
from omega21.protocol.plan import Segment, ShardRef


class _Rows(NamedTuple):
    x: NDArray[np.float32]
    y: NDArray[np.float32]


class SegmentReader:
    """Reads the batches of one segment.

    Batches are defined on the segment's samples, so the result does not depend on where shards
    are cut. The list of shards grows with `extend`. Reading the samples of a later epoch one
    by one takes several times as long as gathering them from memory, where `hold` loads them.
    """

    def __init__(self, segment: Segment, shards: ShardStore) -> None:
        self.segment = segment
        self._shards = shards
        self._starts: list[int] = []
        self._start_array = np.empty(0, np.int64)  # the same as an array
        self._listed = 0
        self._present = 0  # the first shards of the list that are known to be on disk
        self._held: _Rows | None = None  # all samples of the segment
        self.extend(segment)

    def extend(self, segment: Segment) -> None:
        """Replace the list of shards by a longer one."""
        for ref in segment.shards[len(self._starts) :]:
            self._starts.append(self._listed)
            self._listed += ref.samples
        self._start_array = np.array(self._starts)
        self.segment = segment

    def is_ready(self, position: int) -> bool:
        """Whether the samples of a step (0-based within the segment) are on disk.

        A step of the first epoch needs its own samples and, if more epochs follow, those before it;
        a step of a later epoch needs the whole segment.
        """
        epoch, start, stop = self._bounds(position)
        if self.segment.epochs == 1:
            self._pass_over(start)
        return self._present_samples() >= (self.segment.samples if epoch else stop)

    def forget_present(self) -> None:
        """Check again which shards are on disk, after one was lost."""
        self._present = 0

    def missing(self, most: int) -> list[str]:
        """Return the names of listed shards that are missing, at most `most`."""
        names: list[str] = []
        for ref in self.segment.shards[self._present :]:
            if len(names) >= most:
                break
            if ref.sha256 not in self._shards:
                names.append(ref.sha256)
        return names

    def places(self, position: int) -> NDArray[np.int64]:
        """Return the positions of a step's samples in the segment."""
        epoch, start, stop = self._bounds(position)
        if epoch == 0:
            return np.arange(start, stop)
        return _cached_order(self.segment.order_seed, epoch, self.segment.samples)[start:stop]

    def read(self, position: int) -> Batch:
        """Read the batch of a step. Raises UnknownShard when a shard is gone."""
        if self.is_in_order(position):
            _epoch, start, stop = self._bounds(position)
            return self._read_range(start, stop)._asdict()
        places = self.places(position)
        if self._held is not None:
            return _Rows(*(np.take(array, places, axis=0) for array in self._held))._asdict()
        return self._read_rows(places)._asdict()

    def is_in_order(self, position: int) -> bool:
        """Whether the samples of a step are adjacent on disk: those of the first epoch."""
        return self._bounds(position)[0] == 0

    @property
    def held_bytes(self) -> int:
        """Return the memory that `hold` needs, in bytes. Raises UnknownShard."""
        return self.segment.samples * 4 * (self._width(at=0) + 1)

    def hold(self) -> None:
        """Read all samples into memory. Raises UnknownShard when a shard is gone."""
        self._held = self._read_range(0, self.segment.samples)

    @property
    def is_held(self) -> bool:
        """Whether all samples are in memory."""
        return self._held is not None

    def let_go(self) -> None:
        """Release the memory of `hold`."""
        self._held = None

    def _bounds(self, position: int) -> tuple[int, int, int]:
        segment = self.segment
        return batch_of_step(
            position + 1,
            samples=segment.samples,
            batch_size=segment.batch_size,
            epochs=segment.epochs,
        )

    def _pass_over(self, sample: int) -> None:
        """Count the shards before a sample as present: with one epoch no later step needs them.

        A server that continued from a checkpoint may not have them.
        """
        count = bisect_right(self._starts, sample) - 1 if sample < self._listed else 0
        self._present = max(self._present, count)

    def _present_samples(self) -> int:
        refs = self.segment.shards
        while self._present < len(refs) and refs[self._present].sha256 in self._shards:
            self._present += 1
        return self._listed if self._present == len(refs) else self._starts[self._present]

    def _read_range(self, start: int, stop: int) -> _Rows:
        batch = self._empty(stop - start, like=start)
        filled = 0
        while filled < stop - start:
            ref, row = self._find(start + filled)
            rows = slice(filled, filled + min(ref.samples - row, stop - start - filled))
            shard = self._shards.open(ref.sha256)
            shard.read_into("x", row, batch.x[rows])
            shard.read_into("y", row, batch.y[rows])
            filled = rows.stop
        return batch

    def _read_rows(self, places: NDArray[np.int64]) -> _Rows:
        """Read single samples, each with one system call directly into its row."""
        batch = self._empty(len(places), like=int(places[0]))
        numbers = np.searchsorted(self._start_array, places, side="right") - 1
        rows = (places - self._start_array[numbers]).tolist()
        refs, open_shard = self.segment.shards, self._shards.open
        labels = []
        for number, row, out in zip(numbers.tolist(), rows, batch.x, strict=True):
            shard = open_shard(refs[number].sha256)
            shard.read_into("x", row, out)
            labels.append(shard.column("y")[row])
        batch.y[:] = labels
        return batch

    def _empty(self, samples: int, *, like: int) -> _Rows:
        shape = (samples, self._width(at=like))
        return _Rows(np.empty(shape, np.float32), np.empty(samples, np.float32))

    def _width(self, *, at: int) -> int:
        ref, _ = self._find(at)
        return self._shards.open(ref.sha256).spans["x"].shape[1]

    def _find(self, index: int) -> tuple[ShardRef, int]:
        number = bisect_right(self._starts, index) - 1
        return self.segment.shards[number], index - self._starts[number]


MOST_HELD = 256 * 2**20
"""Size of the samples held in memory: 40,000 of 1600 numbers."""

_HELD_SECONDS = 10.0
"""Runs that take turns do not evict each other's samples from memory in each turn."""


class BatchFeed:
    """Returns the batches of steps, prefetched where possible.

    One batch can be read in a separate thread during a step; `stage` then copies it to memory from
    which the device copies asynchronously. The samples of one segment are held in memory during its
    later epochs, if they have at most `most_held` bytes.
    """

    def __init__(
        self,
        stage: Callable[[Batch], Batch] = lambda batch: batch,
        *,
        most_held: int = MOST_HELD,
    ) -> None:
        self._stage = stage
        self._most_held = most_held
        self._holder: weakref.ref[SegmentReader] | None = None
        self._held_at = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="omega21-batches")
        self._reader: SegmentReader | None = None
        self._position = 0
        self._batch: Future[Batch] | None = None

    def prepare(self, reader: SegmentReader, position: int) -> None:
        """Start reading the batch of a step whose samples are on disk."""
        self._reader, self._position = reader, position
        self._batch = self._thread.submit(lambda: self._stage(self._read(reader, position)))

    def take(self, reader: SegmentReader, position: int) -> Batch:
        """Return a step's batch, prefetched or read now.

        Raises UnknownShard when a shard is gone.
        """
        batch, self._batch = self._batch, None
        if batch is not None and reader is self._reader and position == self._position:
            return batch.result()
        return self._read(reader, position)

    def _read(self, reader: SegmentReader, position: int) -> Batch:
        if reader.is_in_order(position):
            return reader.read(position)
        self._hold(reader)
        batch = reader.read(position)
        if position == reader.segment.steps - 1:
            reader.let_go()
        return batch

    def _hold(self, reader: SegmentReader) -> None:
        """Hold the reader's samples in memory, unless another's are in use or too large."""
        now = time.monotonic()
        if not reader.is_held:
            if reader.held_bytes > self._most_held:
                return
            holder = self._holder() if self._holder is not None else None
            if holder is not None and holder.is_held:
                if now < self._held_at + _HELD_SECONDS:
                    return
                holder.let_go()
            reader.hold()
            self._holder = weakref.ref(reader)
        self._held_at = now

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


@lru_cache(maxsize=4)
def _cached_order(order_seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    return epoch_order(order_seed, epoch=epoch, samples=samples)
