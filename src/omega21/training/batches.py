"""From a step's number to its batch: which samples, in which shards, and whether they are here."""

from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omega21.data.order import batch_of_step, epoch_order
from omega21.protocol.plan import Segment, ShardRef
from omega21.training.shards import ShardStore


class Batch(NamedTuple):
    """Samples of one step: x float32 [n, width], y float32 [n]."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]


class SegmentReader:
    """Reads the batches of one segment.

    Batches are defined on the segment's samples, so the result does not depend on where shards
    are cut. The list of shards grows with `extend`.
    """

    def __init__(self, segment: Segment, shards: ShardStore) -> None:
        self.segment = segment
        self._shards = shards
        self._starts: list[int] = []
        self._listed = 0
        self._present = 0  # shards at the list's start that are known to be here
        self.extend(segment)

    def extend(self, segment: Segment) -> None:
        """Take over a longer list of shards."""
        for ref in segment.shards[len(self._starts) :]:
            self._starts.append(self._listed)
            self._listed += ref.samples
        self.segment = segment

    def is_ready(self, position: int) -> bool:
        """Whether the samples of a step (0-based within the segment) are here.

        A first-epoch step needs its own samples and, where more epochs come, those before it; a
        later one needs the whole segment.
        """
        epoch, start, stop = self._bounds(position)
        if self.segment.epochs == 1:
            self._pass_over(start)
        return self._present_samples() >= (self.segment.samples if epoch else stop)

    def forget_present(self) -> None:
        """Look again which shards are here, after one was lost."""
        self._present = 0

    def missing(self, most: int) -> list[str]:
        """Return the names of listed shards that are not here, at most `most`."""
        names: list[str] = []
        for ref in self.segment.shards[self._present :]:
            if len(names) >= most:
                break
            if ref.sha256 not in self._shards:
                names.append(ref.sha256)
        return names

    def places(self, position: int) -> NDArray[np.int64]:
        """Return the places of a step's samples in the segment."""
        epoch, start, stop = self._bounds(position)
        if epoch == 0:
            return np.arange(start, stop)
        return _cached_order(self.segment.order_seed, epoch, self.segment.samples)[start:stop]

    def read(self, position: int) -> Batch:
        """Read the batch of a step. Raises UnknownShard where a shard has gone."""
        epoch, start, stop = self._bounds(position)
        if epoch == 0:
            return self._read_range(start, stop)
        return self._read_rows(self.places(position))

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

        They need not be on a server that went on from a checkpoint.
        """
        count = bisect_right(self._starts, sample) - 1 if sample < self._listed else 0
        self._present = max(self._present, count)

    def _present_samples(self) -> int:
        refs = self.segment.shards
        while self._present < len(refs) and refs[self._present].sha256 in self._shards:
            self._present += 1
        return self._listed if self._present == len(refs) else self._starts[self._present]

    def _read_range(self, start: int, stop: int) -> Batch:
        batch = self._empty(stop - start, like=start)
        filled = 0
        while filled < stop - start:
            ref, row = self._find(start + filled)
            count = min(ref.samples - row, stop - start - filled)
            rows = slice(filled, filled + count)
            for name, out in (("x", batch.x[rows]), ("y", batch.y[rows])):
                out[:] = self._shards.read(ref.sha256, name, rows=range(row, row + count))
            filled += count
        return batch

    def _read_rows(self, places: NDArray[np.int64]) -> Batch:
        """Read single samples, the shards one after another."""
        batch = self._empty(len(places), like=int(places[0]))
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        by_shard = np.argsort(numbers, kind="stable")
        present, firsts = np.unique(numbers[by_shard], return_index=True)
        ends = [*firsts[1:].tolist(), len(places)]
        for number, first, end in zip(present.tolist(), firsts.tolist(), ends, strict=True):
            wanted = by_shard[first:end]
            rows = places[wanted] - self._starts[number]
            sha256 = self.segment.shards[number].sha256
            batch.x[wanted] = self._shards.read_rows(sha256, "x", rows=rows)
            batch.y[wanted] = self._shards.read_rows(sha256, "y", rows=rows)
        return batch

    def _empty(self, samples: int, *, like: int) -> Batch:
        ref, _ = self._find(like)
        width = self._shards.spans(ref.sha256)["x"].shape[1]
        return Batch(np.empty((samples, width), np.float32), np.empty(samples, np.float32))

    def _find(self, index: int) -> tuple[ShardRef, int]:
        number = bisect_right(self._starts, index) - 1
        return self.segment.shards[number], index - self._starts[number]


class BatchAhead:
    """Reads one batch on a thread of its own, while something else is computed.

    `stage` brings what was read there to where the device takes it from.
    """

    def __init__(self, stage: Callable[[Batch], Batch] = lambda batch: batch) -> None:
        self._stage = stage
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="omega21-batches")
        self._reader: SegmentReader | None = None
        self._position = 0
        self._batch: Future[Batch] | None = None

    def prepare(self, reader: SegmentReader, position: int) -> None:
        """Begin to read the batch of a step whose samples are here."""
        self._reader, self._position = reader, position
        self._batch = self._thread.submit(lambda: self._stage(reader.read(position)))

    def take(self, reader: SegmentReader, position: int) -> Batch:
        """Return a step's batch, the one that was prepared or else as read now.

        Raises UnknownShard where a shard has gone.
        """
        batch, self._batch = self._batch, None
        if batch is not None and reader is self._reader and position == self._position:
            return batch.result()
        return reader.read(position)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


@lru_cache(maxsize=4)
def _cached_order(order_seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    return epoch_order(order_seed, epoch=epoch, samples=samples)
