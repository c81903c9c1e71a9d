"""The store of shards: bounded, sound, and never half written."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.engine.storage.shards import MINIMUM_AGE_SECONDS, ShardStore
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import (
    InvalidSamples,
    InvalidShard,
    PlanConflict,
    StorageFull,
    UnknownShard,
)
from omega21.protocol.shards import encode_shard
from tests.engine.engines import (
    CONFIG,
    DrivenRun,
    Samples,
    Shard,
    cut,
    make_samples,
    make_segment,
    make_shard,
    running,
)
from tests.engine.reference import Environment, train_plainly

SHARDS = cut(make_samples(20), 2)
SIZE = len(SHARDS[0].plain)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """A store with a clock that the test sets, and room for so many shards."""

    def __init__(self, folder: Path, *, room: int = 100) -> None:
        self.clock = Clock()
        self.folder = folder
        self.store = ShardStore(folder, limit=room * SIZE, clock=self.clock)

    def put(self, shard: Shard, *, pinned: frozenset[str] = frozenset()) -> bool:
        return self.store.put(shard.sha256, shard.tensors, pinned=lambda: set(pinned))

    def here(self) -> list[int]:
        """Say which of SHARDS have a file; asking is no use."""
        files = {path.stem for path in self.folder.rglob("*.safetensors")}
        return [number for number, shard in enumerate(SHARDS) if shard.sha256 in files]


def open_files(folder: Path) -> list[str]:
    """Files below a folder that this process holds open."""
    opened = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own
            opened.append(str(link.readlink()))
    return [path for path in opened if path.startswith(str(folder))]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "shards", room=3)


class TestStoring:
    def test_a_shard_is_read_by_rows(self, store: Store) -> None:
        shard = make_shard(make_samples(6))
        assert store.put(shard) is True
        opened = store.store.open(shard.sha256)
        assert opened.samples == 6
        for rows in (range(6), range(2, 4), range(5, 6), range(3, 3)):
            got = np.empty((len(rows), 1600), np.float32)
            opened.read_into("x", rows.start, got)
            np.testing.assert_array_equal(got, shard.tensors["x"][rows.start : rows.stop])
        np.testing.assert_array_equal(opened.read("x"), shard.tensors["x"])
        np.testing.assert_array_equal(opened.read("x", rows=2), shard.tensors["x"][:2])
        for _ in range(2):
            labels = [opened.item("y", row) for row in range(6)]
            np.testing.assert_array_equal(labels, shard.tensors["y"])

    def test_so_many_files_stay_open_and_no_more(self, tmp_path: Path) -> None:
        store = ShardStore(tmp_path, limit=10**9, open_files=3)
        shards = cut(make_samples(20), 2)
        for shard in shards:
            store.put(shard.sha256, shard.tensors, pinned=set)
        before = open_files(tmp_path)
        for shard in (*shards, *shards):
            np.testing.assert_array_equal(store.open(shard.sha256).read("x"), shard.tensors["x"])
        assert len(open_files(tmp_path)) == len(before) + 3
        kept = [store.open(shard.sha256) for shard in shards[:5]]  # by who reads them
        np.testing.assert_array_equal(kept[0].read("x"), shards[0].tensors["x"])

    def test_a_process_that_may_open_no_more_files_loses_no_shard(self, store: Store) -> None:
        store.put(SHARDS[0])
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                store.store.open(SHARDS[0].sha256)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert store.here() == [0]
        np.testing.assert_array_equal(
            store.store.open(SHARDS[0].sha256).read("x"), SHARDS[0].tensors["x"]
        )

    def test_the_same_again_changes_nothing(self, store: Store) -> None:
        assert store.put(SHARDS[0]) is True
        written = next(store.folder.rglob("*.safetensors")).stat()
        assert store.put(SHARDS[0]) is False
        assert next(store.folder.rglob("*.safetensors")).stat() == written
        assert store.store.total_bytes == SIZE

    def test_it_is_there_for_the_next_process(self, store: Store) -> None:
        store.put(SHARDS[0])
        again = Store(store.folder)
        assert SHARDS[0].sha256 in again.store
        rows = again.store.open(SHARDS[0].sha256).read("y")
        np.testing.assert_array_equal(rows, SHARDS[0].tensors["y"])

    def test_what_is_not_what_its_name_says_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidShard, match=SHARDS[1].sha256):
            store.store.put(SHARDS[1].sha256, SHARDS[0].tensors, pinned=set)
        assert store.here() == []

    def test_what_a_killed_process_left_half_written_is_removed(self, store: Store) -> None:
        store.put(SHARDS[0])
        folder = next(store.folder.rglob("*.safetensors")).parent
        (folder / ".abc.safetensors.123.tmp").write_bytes(b"half")
        again = Store(store.folder)
        assert [path.name for path in folder.iterdir()] == [f"{SHARDS[0].sha256}.safetensors"]
        assert again.store.total_bytes == SIZE

    def test_the_same_from_many_threads_at_once(self, tmp_path: Path) -> None:
        store = Store(tmp_path)
        shards = cut(make_samples(40, seed=3), 2)
        together = threading.Barrier(4)
        stored: list[bool] = []

        def send() -> None:
            for shard in shards:
                together.wait()
                stored.append(store.put(shard))

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stored) == 80
        again = Store(tmp_path)
        for shard in shards:
            rows = again.store.open(shard.sha256).read("x")
            np.testing.assert_array_equal(rows, shard.tensors["x"])
        assert not list(tmp_path.rglob("*.tmp"))


class TestRoom:
    def fill(self, store: Store) -> None:
        for number in range(3):
            store.put(SHARDS[number])
            store.clock.now += 1

    def test_young_shards_stay_and_the_newcomer_is_refused(self, store: Store) -> None:
        self.fill(store)
        store.clock.now += MINIMUM_AGE_SECONDS - 10
        with pytest.raises(StorageFull, match=f"of {3 * SIZE} bytes"):
            store.put(SHARDS[3])
        assert store.here() == [0, 1, 2]

    def test_the_least_recently_used_goes_first(self, store: Store) -> None:
        self.fill(store)
        store.store.open(SHARDS[0].sha256)
        assert SHARDS[1].sha256 in store.store  # asking counts as use
        store.clock.now += MINIMUM_AGE_SECONDS + 10
        for newcomer, left in ((3, [0, 1, 3]), (4, [1, 3, 4])):
            store.put(SHARDS[newcomer])
            assert store.here() == left

    def test_what_is_pinned_stays(self, store: Store) -> None:
        self.fill(store)
        store.clock.now += MINIMUM_AGE_SECONDS + 10
        store.put(SHARDS[3], pinned=frozenset({SHARDS[0].sha256, SHARDS[1].sha256}))
        assert store.here() == [0, 1, 3]
        with pytest.raises(StorageFull):
            store.put(SHARDS[4], pinned=frozenset({SHARDS[0].sha256, SHARDS[1].sha256}))
        assert store.here() == [0, 1, 3]

    def test_no_more_goes_than_has_to(self, store: Store) -> None:
        self.fill(store)
        store.clock.now += MINIMUM_AGE_SECONDS + 10
        store.put(make_shard(make_samples(3, seed=8)))
        assert store.here() == [2]

    def test_an_evicted_shard_can_come_back(self, store: Store) -> None:
        self.fill(store)
        store.clock.now += MINIMUM_AGE_SECONDS + 10
        store.put(SHARDS[3])
        with pytest.raises(UnknownShard):
            store.store.open(SHARDS[0].sha256)
        assert store.put(SHARDS[0]) is True


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense" * 100)


def remove(path: Path) -> None:
    path.unlink()


HARM = [cut_short, flip_a_bit, empty, replace_by_nonsense, remove]


class TestDamage:
    @pytest.mark.parametrize("harm", HARM)
    def test_shows_in_the_next_process_and_the_shard_is_asked_for_again(
        self, harm: Callable[[Path], None], tmp_path: Path
    ) -> None:
        samples = make_samples(8)
        shards = cut(samples, 3)
        with running(tmp_path) as engine:
            run = DrivenRun(engine)
            run.plan_whole(shards, make_segment(shards, batch_size=2, epochs=2))
        with running(tmp_path) as engine:
            harm(tmp_path / "shards" / shards[1].sha256[:2] / f"{shards[1].sha256}.safetensors")
            run = run.on(engine)
            run.advance(8)
            run.wait(lambda summary: summary.state == "waiting" and summary.step > 0)
            assert engine.runs.state(run.name).waiting_for == [shards[1].sha256]
            assert engine.shards.missing([shards[1].sha256]) == [shards[1].sha256]
            run.upload(shards)
            run.wait_for_step(8)
            assert run.outcome == train_plainly(CONFIG, [Environment(samples, 2, epochs=2)])

    def test_while_it_is_in_use_is_noticed_too(self, run: DrivenRun, tmp_path: Path) -> None:
        shards = cut(make_samples(8), 8)
        run.plan_whole(shards, make_segment(shards, batch_size=2))
        run.advance(1)
        run.wait_for_step(1)
        os.truncate(next((tmp_path / "data" / "shards").rglob("*.safetensors")), 1000)
        run.advance(4)
        run.wait(lambda summary: summary.state == "waiting")
        assert run.engine.runs.state(run.name).waiting_for == [shards[0].sha256]
        run.upload(shards)
        run.wait_for_step(4)
        assert run.outcome == train_plainly(CONFIG, [Environment(make_samples(8), 2)])


WRONG = [
    pytest.param(Samples(np.ones((2, 8), np.float32), np.ones(2, np.float32)), id="width"),
    pytest.param(Samples(np.ones((2, 1600), np.float32), np.array([0, 5], np.float32)), id="label"),
    pytest.param(Samples(np.ones((3, 1600), np.float32), np.ones(3, np.float32)), id="count"),
    pytest.param(Samples(np.ones((2, 1600), np.float32), np.ones((2, 1), np.float32)), id="y"),
]


class TestWhatAPlanCannotUse:
    """A shard that does not fit what lists it is refused, whichever comes first."""

    @pytest.mark.parametrize("samples", WRONG)
    def test_when_it_is_listed(self, run: DrivenRun, samples: Samples) -> None:
        shard = make_shard(samples)
        run.upload([shard])
        listing = make_segment(SHARDS[:1], batch_size=2)
        ref = listing.shards[0].model_copy(update={"sha256": shard.sha256})
        with pytest.raises((InvalidSamples, PlanConflict)):
            run.put(0, listing.model_copy(update={"shards": (ref,)}))
        assert run.summary.plan_steps == 0

    @pytest.mark.parametrize("samples", WRONG)
    def test_when_it_arrives(self, engine: Engine, run: DrivenRun, samples: Samples) -> None:
        shard = make_shard(samples)
        listing = make_segment(SHARDS[:1], batch_size=2)
        ref = listing.shards[0].model_copy(update={"sha256": shard.sha256})
        run.put(0, listing.model_copy(update={"shards": (ref,)}))
        with pytest.raises((InvalidSamples, PlanConflict)):
            run.upload([shard])
        assert shard.sha256 not in engine.shards
        assert run.summary.state == "idle"

    def test_when_it_lacks_a_tensor(self, engine: Engine, run: DrivenRun) -> None:

        for names in (("x",), ("x", "z")):
            tensors = {name: np.ones((2, 1600), np.float32) for name in names}
            sha256 = tensors_sha256(tensors)
            listing = make_segment(SHARDS[:1], batch_size=2)
            ref = listing.shards[0].model_copy(update={"sha256": sha256})
            engine.shards.put(sha256, encode_shard(tensors), compressed=True)
            with pytest.raises((InvalidSamples, PlanConflict)):
                run.put(0, listing.model_copy(update={"shards": (ref,)}))


class TestFullDisk:
    def test_within_the_limit_training_goes_on(self, tmp_path: Path) -> None:
        shards = cut(make_samples(12), 2)
        room = 4 * len(shards[0].plain) + 100
        options = EngineOptions(device="cpu", threads=1, disk_limit=room)
        with running(tmp_path, options) as engine:
            run = DrivenRun(engine)
            run.put(0, make_segment(shards, batch_size=2))
            run.advance(6)
            run.upload(shards[:4])
            with pytest.raises(StorageFull) as refused:
                run.upload(shards[4:])
            assert refused.value.retry_after
            run.wait_for_step(4)
            assert engine.runs.state(run.name).waiting_for == [s.sha256 for s in shards[4:]]

    def test_a_disk_without_room_leaves_nothing_half_written(self, tmp_path: Path) -> None:
        """A process that may write no file larger than 4 KB meets the same errors."""
        code = (
            "import resource, signal, sys\n"
            "from pathlib import Path\n"
            "from omega21.protocol.errors import StorageFull\n"
            "from omega21.engine.storage.shards import ShardStore\n"
            "from tests.engine.engines import make_samples, make_shard\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
            "store = ShardStore(Path(sys.argv[1]), limit=10**9)\n"
            "shard = make_shard(make_samples(2))\n"
            "for _ in range(2):\n"
            "    try:\n"
            "        store.put(shard.sha256, shard.tensors, pinned=set)\n"
            "    except StorageFull as error:\n"
            "        print(error.message)\n"
            "print(shard.sha256 in store, store.total_bytes)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        assert lines[-1] == "False 0"
        assert [line.startswith("writing shard") for line in lines[:-1]] == [True, True]
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
