"""What a server knows of its runs, in one file: all or nothing, grouped, and refused by name."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from omega21.engine.engine import Engine
from omega21.engine.storage.ledger import Ledger
from omega21.engine.storage.schema import FORMAT
from omega21.engine.storage.steps import StoredStep
from omega21.protocol.digests import CHAIN_START, chain_result
from omega21.protocol.errors import RunFolderConflict
from omega21.protocol.runs import Environment
from tests.engine.engines import (
    CONFIG,
    OPTIONS,
    DrivenRun,
    cut,
    make_samples,
    make_segment,
    running,
)
from tests.engine.local_device import local_engine
from tests.engine.processes import EngineProcess

SHARDS = cut(make_samples(8), 2)
SEGMENT = make_segment(SHARDS, batch_size=2, epochs=3)


def record(step: int, *, loss: float = 0.5) -> StoredStep:
    return StoredStep(
        step=step,
        samples=2,
        loss=loss,
        metrics={"accuracy": 0.25, "f1": None},
        digest=chain_result(CHAIN_START, step, loss),
        ended_at=float(step),
        seconds=0.1,
        non_finite=False,
        skipped=False,
        micro_batch_size=None,
        vectors={"gates": np.arange(3, dtype=np.float32), "wide": np.arange(80, dtype=np.float32)},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    yield ledger
    ledger.close()


@pytest.fixture
def key(ledger: Ledger) -> int:
    return ledger.runs.add("a-run", "a" * 32, CONFIG).key


def as_a_kill_would_leave_it(path: Path) -> Ledger:
    """Open what is in the files now, whatever the process that wrote them still holds."""
    copy = path.parent / "copy"
    copy.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        if not file.name.endswith("-shm"):  # shared memory, which a dead process has not
            shutil.copy(file, copy)
    return Ledger(copy / path.name)


class TestAKill:
    def test_loses_nothing_that_was_written(self, ledger: Ledger, path: Path, key: int) -> None:
        ledger.segments.put(key, 0, segment=SEGMENT, known_shards=0)
        ledger.runs.set_target(key, 7)
        ledger.runs.set_control(key, revision=3, paused=True)
        ledger.steps.add(key, [record(1), record(2)])
        ledger.environments.add_micro_batch_size(key, from_step=2, size=1)
        batch = ledger.inline.add(key, "k", body="b", segment=SEGMENT)
        again = as_a_kill_would_leave_it(path)
        (run,) = again.runs.all()
        assert (run.target, run.revision, run.paused, run.config) == (7, 3, True, CONFIG)
        assert again.segments.of(key) == [SEGMENT]
        assert again.steps.range(key)[1] == 2
        assert again.environments.micro_batch_sizes(key) == {2: 1}
        assert [pending.batch for pending in again.inline.pending(key)] == [batch]
        again.close()

    def test_leaves_a_transaction_whole_or_not_at_all(
        self, ledger: Ledger, path: Path, key: int
    ) -> None:
        """The segment of the inline batch is there already, so the batch cannot become it."""
        ledger.segments.put(key, 0, segment=SEGMENT, known_shards=0)
        batch = ledger.inline.add(key, "k", body="b", segment=SEGMENT)
        with pytest.raises(sqlite3.IntegrityError):
            ledger.inline.finish(key, batch, number=0, segment=SEGMENT, records=[record(1)])
        again = as_a_kill_would_leave_it(path)
        for opened in (ledger, again):
            assert opened.steps.range(key)[1] == 0
            assert opened.runs.all()[0].target == 0
            assert [pending.batch for pending in opened.inline.pending(key)] == [batch]
        again.close()


class TestStepRecords:
    def test_are_read_as_they_were_written(self, ledger: Ledger, key: int) -> None:
        rows = [record(step, loss=0.1 * step) for step in range(1, 8)]
        ledger.steps.add(key, rows[:3])
        ledger.steps.add(key, rows[3:])
        got = ledger.steps.page(key, after=2, until=6, limit=3)
        assert [row.step for row in got] == [3, 4, 5]
        assert [row.digest for row in got] == [row.digest for row in rows[2:5]]
        assert got[0].metrics == rows[2].metrics
        assert list(got[0].vectors) == ["gates", "wide"]
        for name, values in rows[2].vectors.items():
            np.testing.assert_array_equal(got[0].vectors[name], values)
        assert ledger.steps.recent_losses(key, 2) == [rows[5].loss, rows[6].loss]

    def test_that_are_replaced_are_kept_aside(self, ledger: Ledger, path: Path, key: int) -> None:
        ledger.steps.add(key, [record(step) for step in (1, 2, 3)])
        ledger.steps.add(key, [record(2, loss=0.75), record(3, loss=0.75)])
        assert [r.loss for r in ledger.steps.page(key, after=0, until=9, limit=9)] == [
            0.5,
            0.75,
            0.75,
        ]
        with sqlite3.connect(path) as db:
            aside = db.execute("SELECT step, record ->> 'loss' FROM replaced_steps").fetchall()
        assert aside == [(2, 0.5), (3, 0.5)]
        db.close()

    def test_of_other_runs_are_apart(self, ledger: Ledger, key: int) -> None:
        other = ledger.runs.add("other", "b" * 32, CONFIG).key
        ledger.steps.add(key, [record(1)])
        assert ledger.steps.range(other)[1] == 0
        assert ledger.steps.totals(other).steps == 0
        ledger.runs.remove(other, "b" * 32)
        assert ledger.steps.range(key)[1] == 1

    def test_of_a_removed_run_are_no_other_runs(self, ledger: Ledger, key: int) -> None:
        ledger.runs.remove(key, "a" * 32)
        ledger.steps.add(key, [record(1)])  # one that was on its way
        assert ledger.runs.is_dead("a" * 32)
        assert ledger.steps.range(ledger.runs.add("next", "b" * 32, CONFIG).key)[1] == 0


def test_conditions_from_a_step_on_replace_those_known_of_it(ledger: Ledger, key: int) -> None:
    def environment(from_step: int, device: str) -> Environment:
        return Environment(
            from_step=from_step, device=device, precision="float32", deterministic=True,
            threads=1, torch_version="2", omega21_version="0",
        )  # fmt: skip

    for from_step, device in ((1, "a"), (10, "b"), (20, "c"), (5, "d")):
        ledger.environments.add(key, environment(from_step, device))
    assert [(s.from_step, s.device) for s in ledger.environments.of(key)] == [(1, "a"), (5, "d")]


def test_threads_that_come_and_go_leave_no_file_open(ledger: Ledger, key: int) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def read() -> None:
        ledger.steps.totals(key)

    read()
    before = count()
    for _ in range(50):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert count() <= before + 4


class TestFolders:
    @pytest.mark.parametrize("other", [FORMAT - 1, FORMAT + 1])
    def test_of_another_format_are_refused_and_left_alone(self, tmp_path: Path, other: int) -> None:
        path = tmp_path / "ledger.sqlite"
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version = {other}")
            db.execute("CREATE TABLE runs (future TEXT)")
        db.close()
        before = path.read_bytes()
        with pytest.raises(RunFolderConflict, match=f"format {other}.*reads {FORMAT}"):
            local_engine(tmp_path, OPTIONS)
        assert path.read_bytes() == before
        path.unlink()
        with running(tmp_path):  # it was not left locked
            pass

    @pytest.mark.parametrize("content", [b"nonsense" * 200, b"SQLite format 3\0" + bytes(500)])
    def test_with_a_foreign_or_damaged_file_are_refused_and_left_alone(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "ledger.sqlite"
        path.write_bytes(content)
        with pytest.raises(RunFolderConflict, match=r"ledger\.sqlite"):
            local_engine(tmp_path, OPTIONS)
        assert path.read_bytes() == content

    def test_in_use_are_refused(self, engine: Engine, tmp_path: Path) -> None:
        for _ in range(2):
            with pytest.raises(RunFolderConflict, match="another server uses"):
                local_engine(tmp_path / "data", OPTIONS)
        assert engine.statistics.status("default").status == "online"

    def test_in_use_by_another_process_are_refused_until_it_is_gone(self, tmp_path: Path) -> None:
        process = EngineProcess(tmp_path, OPTIONS)
        with pytest.raises(RunFolderConflict, match="another server uses"):
            local_engine(tmp_path, OPTIONS)
        process.kill()
        with running(tmp_path) as engine:
            assert engine.runs.summary("default").step == 0


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    """In a process whose files may not grow, until they may again."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from omega21.protocol.errors import StorageFull\n"
        "from omega21.engine.storage.ledger import Ledger\n"
        "from tests.engine.engines import CONFIG\n"
        "from tests.engine.storage.test_ledger import record\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "ledger = Ledger(Path(sys.argv[1]) / 'ledger.sqlite')\n"
        "key = ledger.runs.add('a-run', 'a' * 32, CONFIG).key\n"
        "ledger.steps.add(key, [record(1)])\n"
        "largest = max(path.stat().st_size for path in Path(sys.argv[1]).iterdir())\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))\n"
        "many = [record(step) for step in range(2, 500)]\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        ledger.steps.add(key, many)\n"
        "    except StorageFull as error:\n"
        "        print(type(error).__name__)\n"
        "print(ledger.steps.range(key)[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "ledger.steps.add(key, many)\n"
        "print(ledger.steps.range(key)[1])\n"
        "ledger.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == ["StorageFull", "StorageFull", "1", "499"]


def test_an_engine_goes_on_where_its_ledger_stands(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        run = DrivenRun(engine)
        run.plan_whole(SHARDS, SEGMENT)
        run.control(4, paused=True)
        run.advance(9)
        server_id, plan = engine.folder.server_id, engine.plans.get(run.name)
    with running(tmp_path) as engine:
        run = run.on(engine)
        assert engine.folder.server_id == server_id
        assert engine.plans.get(run.name) == plan
        assert (run.summary.target, run.summary.revision, run.summary.paused) == (9, 4, True)
