"""Batches as they are read from shards, and the one that is read ahead."""

import gc
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.data.order import epoch_order
from omega21.engine.batches import BatchFeed, SegmentReader
from omega21.engine.storage.shards import ShardStore
from omega21.models.registry import default_config
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import UnknownShard
from omega21.protocol.schema import Schema
from tests.engine.engines import Samples, Shard, cut, make_samples, make_segment
from tests.schemas import make_tensors, schemas

SCHEMA = default_config().sample_schema
SAMPLES = make_samples(29)
BATCH_SIZE = 8


def stored(folder: Path, shards: list[Shard]) -> SegmentReader:
    store = ShardStore(folder, limit=10**9)
    for shard in shards:
        store.put(shard.sha256, shard.tensors, pinned=set)
    return SegmentReader(
        make_segment(shards, batch_size=BATCH_SIZE, epochs=3, order_seed=5), store, schema=SCHEMA
    )


@pytest.mark.parametrize("size", [1, 7, 8, 29])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_a_batch_is_its_samples_wherever_shards_are_cut(
    tmp_path: Path, size: int, kind: type[np.floating]
) -> None:
    x = SAMPLES.x.astype(kind)
    reader = stored(tmp_path, cut(Samples(x, SAMPLES.y), size))
    for position in range(reader.segment.steps):
        epoch, place = divmod(position, reader.segment.steps_per_epoch)
        order = epoch_order(5, epoch=epoch, samples=29)[place * 8 : place * 8 + 8]
        batch = reader.read(position)
        assert {batch["x"].dtype.str, batch["y"].dtype.str} == {"<f4"}
        np.testing.assert_array_equal(batch["x"], x[order].astype(np.float32))
        np.testing.assert_array_equal(batch["y"], SAMPLES.y[order])
        if epoch == 1 and place == 0:
            reader.hold()  # from here on they come from memory


def test_a_shard_that_is_cut_short_on_disk_is_unknown(tmp_path: Path) -> None:
    (shard,) = cut(SAMPLES, 29)
    reader = stored(tmp_path, [shard])
    reader.read(0)
    path = next(tmp_path.glob("??/*"))
    with path.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(UnknownShard, match="truncated"):
        reader.read(reader.segment.steps - 1)


@given(schemas(), st.integers(1, 9), st.integers(1, 5))
def test_a_batch_of_any_schema_has_its_tensors(schema: Schema, size: int, batch_size: int) -> None:
    tensors = make_tensors(schema, 9)
    parts = [
        {name: array[start : start + size] for name, array in tensors.items()}
        for start in range(0, 9, size)
    ]
    shards = [Shard(part, tensors_sha256(part)) for part in parts]
    segment = make_segment(shards, batch_size=batch_size, epochs=3, order_seed=5)
    with TemporaryDirectory() as folder:
        store = ShardStore(Path(folder), limit=10**9)
        for shard in shards:
            store.put(shard.sha256, shard.tensors, pinned=set)
        reader = SegmentReader(segment, store, schema=schema)
        assert reader.held_bytes == sum(array.nbytes for array in tensors.values())
        for position in range(segment.steps):
            if position == 2 * segment.steps_per_epoch:
                reader.hold()  # the last epoch comes from memory
            batch, places = reader.read(position), reader.places(position)
            assert list(batch) == list(schema.tensors)
            assert reader.batch_samples(position) == len(places)
            for name, spec in schema.tensors.items():
                assert batch[name].dtype == spec.numpy_type
                np.testing.assert_array_equal(batch[name], tensors[name][places])


def test_numbers_of_a_shard_that_is_not_kept_in_memory_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omega21.engine.storage.shards._MOST_KEPT", 8)
    reader = stored(tmp_path, cut(SAMPLES, 29))
    last = reader.segment.steps - 1
    batch, places = reader.read(last), reader.places(last)
    np.testing.assert_array_equal(batch["y"], SAMPLES.y[places])


class TestHeld:
    """Later epochs read samples from memory, where there is room."""

    BYTES = 29 * 4 * 1601

    @pytest.fixture
    def readers(self, tmp_path: Path) -> tuple[SegmentReader, SegmentReader]:
        shards = cut(SAMPLES, 7)
        return stored(tmp_path, shards), stored(tmp_path, shards)

    @pytest.mark.parametrize("spare", [0, -1])
    def test_a_segment_that_fits_until_its_last_step(
        self, readers: tuple[SegmentReader, SegmentReader], spare: int
    ) -> None:
        reader, plain = readers
        feed = BatchFeed(most_held=self.BYTES + spare)
        for position in range(reader.segment.steps):
            taken, expected = feed.take(reader, position), plain.read(position)
            np.testing.assert_array_equal(taken["x"], expected["x"])
            np.testing.assert_array_equal(taken["y"], expected["y"])
            is_last = position == reader.segment.steps - 1
            in_order = position < reader.segment.steps_per_epoch
            assert reader.is_held == (spare >= 0 and not in_order and not is_last)

    def test_one_at_a_time_for_as_long_as_it_is_used(
        self, readers: tuple[SegmentReader, SegmentReader], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = readers
        now = [1000.0]
        monkeypatch.setattr("omega21.engine.batches.time.monotonic", lambda: now[0])
        feed = BatchFeed(most_held=self.BYTES)
        for now[0], reader, held in (
            (1000, first, first),
            (1001, second, first),
            (1009, first, first),
            (1018, second, first),
            (1020, second, second),
            (1021, first, second),
        ):
            feed.take(reader, 5)
            assert [other.is_held for other in readers] == [other is held for other in readers]

    def test_a_run_that_is_gone_holds_nothing(self, tmp_path: Path) -> None:
        feed = BatchFeed(most_held=self.BYTES)
        reader = stored(tmp_path, cut(SAMPLES, 7))
        feed.take(reader, 5)
        held = weakref.ref(reader)
        del reader
        gc.collect()
        assert held() is None
