"""Batches: the samples of a step, their shards, and whether these are on disk."""

import time
import weakref
from bisect import bisect_right
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omega21.data.order import batch_of_step, epoch_order
from omega21.engine.storage.shards import ShardStore
from omega21.executors.base import Arrays, Batch
from omega21.protocol.plan import Segment, ShardRef
from omega21.protocol.schema import Schema


class SegmentReader:
    """Reads the batches of one segment.

    A batch has the tensors of the schema, in its types. Batches are defined on the segment's
    samples, so the result does not depend on where shards are cut. The list of shards grows with
    `extend`. Reading the samples of a later epoch one by one takes several times as long as
    gathering them from memory, where `hold` loads them.
    """

    def __init__(self, segment: Segment, shards: ShardStore, *, schema: Schema) -> None:
        self.segment = segment
        self.schema = schema
        self._shards = shards
        self._starts: list[int] = []
        self._start_array = np.empty(0, np.int64)  # the same as an array
        self._listed = 0
        self._present = 0  # the first shards of the list that are known to be on disk
        self._held: Arrays | None = None  # all samples of the segment
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

    def read(self, position: int) -> Arrays:
        """Read the batch of a step. Raises UnknownShard when a shard is gone."""
        batch = self._empty(self.batch_samples(position))
        self.read_into(position, batch)
        return batch

    def read_into(self, position: int, batch: Arrays) -> None:
        """Read the batch of a step into arrays of its shapes. Raises UnknownShard."""
        _epoch, start, stop = self._bounds(position)
        if self.is_in_order(position):
            self._read_range(start, stop, batch)
        elif self._held is not None:
            places = self.places(position)
            for name, array in self._held.items():
                np.take(array, places, axis=0, out=batch[name], mode="clip")  # unbuffered
        else:
            self._read_rows(self.places(position), batch)

    def batch_samples(self, position: int) -> int:
        """Count the samples of a step's batch."""
        _epoch, start, stop = self._bounds(position)
        return stop - start

    def is_in_order(self, position: int) -> bool:
        """Whether the samples of a step are adjacent on disk: those of the first epoch."""
        return self._bounds(position)[0] == 0

    @property
    def held_bytes(self) -> int:
        """Return the memory that `hold` needs, in bytes."""
        return self.segment.samples * self.schema.sample_bytes

    def hold(self) -> None:
        """Read all samples into memory. Raises UnknownShard when a shard is gone."""
        held = self._empty(self.segment.samples)
        self._read_range(0, self.segment.samples, held)
        self._held = held

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

    def _read_range(self, start: int, stop: int, batch: Arrays) -> None:
        filled = 0
        while filled < stop - start:
            ref, row = self._find(start + filled)
            rows = slice(filled, filled + min(ref.samples - row, stop - start - filled))
            shard = self._shards.open(ref.sha256)
            for name, array in batch.items():
                shard.read_into(name, row, array[rows])
            filled = rows.stop

    def _read_rows(self, places: NDArray[np.int64], batch: Arrays) -> None:
        """Read single samples, each tensor with one system call directly into its row.

        Those of one number a sample come from memory (`Shard.item`).
        """
        numbers = np.searchsorted(self._start_array, places, side="right") - 1
        rows = (places - self._start_array[numbers]).tolist()
        refs, open_shard = self.segment.shards, self._shards.open
        wide = [(name, array) for name, array in batch.items() if array.ndim > 1]
        columns = [(name, list[Any]()) for name, array in batch.items() if array.ndim == 1]
        for place, (number, row) in enumerate(zip(numbers.tolist(), rows, strict=True)):
            shard = open_shard(refs[number].sha256)
            for name, array in wide:
                shard.read_into(name, row, array[place])
            for name, values in columns:
                values.append(shard.item(name, row))
        for name, values in columns:
            batch[name][:] = values

    def _empty(self, samples: int) -> Arrays:
        return {
            name: np.empty((samples, *spec.shape), spec.numpy_type)
            for name, spec in self.schema.tensors.items()
        }

    def _find(self, index: int) -> tuple[ShardRef, int]:
        number = bisect_right(self._starts, index) - 1
        return self.segment.shards[number], index - self._starts[number]


MOST_HELD = 256 * 2**20
"""Size of the samples held in memory, in bytes: 40,000 samples of 6.4 kB."""

_HELD_SECONDS = 10.0
"""Runs that take turns do not evict each other's samples from memory in each turn."""


class BatchFeed:
    """Returns the batches of steps; one thread reads.

    The samples of one segment are held in memory during its later epochs, if they have at most
    `most_held` bytes.
    """

    def __init__(self, *, most_held: int = MOST_HELD) -> None:
        self._most_held = most_held
        self._holder: weakref.ref[SegmentReader] | None = None
        self._held_at = 0.0

    def take(self, reader: SegmentReader, position: int) -> Batch:
        """Read a step's batch. Raises UnknownShard when a shard is gone."""
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


@lru_cache(maxsize=4)
def _cached_order(order_seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    return epoch_order(order_seed, epoch=epoch, samples=samples)
