"""The run folder: what it holds after a crash, who may hold it, what it refuses to misread."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.client.store.results import Results
from omega21.client.store.run_folder import (
    RunFolder,
    RunRecord,
    fresh_run_name,
    list_run_folders,
    run_folder_path,
    server_data_path,
)
from omega21.data import durable
from omega21.data.durable import append_durably, write_durably
from omega21.models.registry import default_config
from omega21.protocol.digests import chain_result
from omega21.protocol.errors import RunFolderConflict
from omega21.protocol.names import check_run_name
from omega21.protocol.plan import Segment, ShardRef, Source
from omega21.protocol.steps import StepRecord

SEGMENT = Segment(samples=10, batch_size=4, source=Source(kind="simple", anomaly_percent=10))
SHARD = ShardRef(sha256="a" * 64, samples=6)


def record(run: str = "one", created_at: float = 1.0) -> RunRecord:
    return RunRecord(run=run, id="1" * 32, config=default_config(), created_at=created_at)


def rows(losses: Sequence[float], *, first: int = 1, digest: str = "0" * 32) -> list[StepRecord]:
    made = []
    for step, loss in enumerate(losses, first):
        digest = chain_result(digest, step, loss)
        made.append(
            StepRecord(step=step, loss=loss, samples=4, digest=digest, ended_at=step, seconds=0.5)
        )
    return made


def test_what_is_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "one", record()) as folder:
        folder.put_segment(0, SEGMENT)
        folder.put_segment(0, SEGMENT.model_copy(update={"shards": (SHARD,)}))
        folder.put_shard(SHARD.sha256, b"body")
        folder.update(server="http://127.0.0.1:1", finished_segments=1)
        folder.results.put(rows([3.0, 2.0]))
        folder.note("happened", why="because")
    with RunFolder.open(tmp_path / "one") as again:
        assert again.record == record().model_copy(
            update={"server": "http://127.0.0.1:1", "finished_segments": 1}
        )
        assert again.segments[0].shards == (SHARD,)
        assert again.shard(SHARD.sha256) == b"body"
        assert again.shard("b" * 64) is None
        assert list(again.results.rows()) == rows([3.0, 2.0])
    lines = (tmp_path / "one" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["created", "happened"]


def test_a_plan_only_grows(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "one", record()) as folder:
        folder.put_segment(0, SEGMENT.model_copy(update={"shards": (SHARD,)}))
        with pytest.raises(RunFolderConflict, match="segment 0 contradicts"):
            folder.put_segment(0, SEGMENT)
        with pytest.raises(ValueError, match="gap"):
            folder.put_segment(2, SEGMENT)


def test_two_programs_on_one_folder_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "one"
    with RunFolder.create(path, record()):
        for attempt in (RunFolder.open, lambda where: RunFolder.create(where, record())):
            with pytest.raises(RunFolderConflict, match="another program works on the run"):
                attempt(path)
        code = (
            "import sys; from pathlib import Path\n"
            "from omega21.client.store.run_folder import RunFolder\n"
            "RunFolder.open(Path(sys.argv[1]))"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, path], check=False, capture_output=True, text=True
        )
        assert "another program works on the run" in other.stderr
    RunFolder.open(path).close()


def test_a_folder_of_a_killed_program_is_free(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "one", record()).close()
    code = (
        "import os, sys; from pathlib import Path\n"
        "from omega21.client.store.run_folder import RunFolder\n"
        "folder = RunFolder.open(Path(sys.argv[1])); folder.note('held'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "one"], check=False)
    with RunFolder.open(tmp_path / "one"):
        assert "held" in (tmp_path / "one" / "log.jsonl").read_text()


@pytest.mark.parametrize("name", ["run.json", "plan.json"])
def test_a_newer_or_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    RunFolder.create(tmp_path / "one", record()).close()
    path = tmp_path / "one" / name
    newer = json.dumps({**json.loads(path.read_text()), "format": 9, "new": True})
    for text, words in ((newer, "has format 9"), ("{", "cannot be read"), ("[]", "cannot be read")):
        path.write_text(text)
        with pytest.raises(RunFolderConflict, match=words):
            RunFolder.open(tmp_path / "one")
        assert path.read_text() == text


def test_fields_of_a_later_version_of_this_format_are_passed_over(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "one", record()).close()
    path = tmp_path / "one" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "color": "blue"}))
    with RunFolder.open(tmp_path / "one") as folder:
        assert folder.record == record()


@pytest.mark.parametrize("other", [4, 99])
def test_results_of_another_format_are_refused(tmp_path: Path, other: int) -> None:
    import sqlite3

    database = sqlite3.connect(tmp_path / "results.sqlite")
    database.execute(f"PRAGMA user_version = {other}")
    database.close()
    with pytest.raises(RunFolderConflict, match=f"format {other}"):
        Results(tmp_path / "results.sqlite")


def test_where_folders_are_and_which(tmp_path: Path) -> None:
    assert run_folder_path("one", tmp_path) == tmp_path / "one"
    assert run_folder_path("one").parts[-2:] == ("runs", "one")
    assert server_data_path("one", tmp_path) == tmp_path / "one" / "server"
    for name, created_at in (("old", 1.0), ("new", 2.0)):
        path = run_folder_path(name, tmp_path)
        RunFolder.create(path, record(name, created_at)).close()
    assert [found.run for found in list_run_folders(tmp_path)] == ["new", "old"]
    assert list_run_folders(tmp_path / "nowhere") == []
    assert check_run_name(fresh_run_name()) != fresh_run_name()


def test_a_replay_is_compared_and_not_added(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.sqlite")
    first = rows([5.0, 4.0, 3.0, 2.0])
    assert results.put(first) == []
    assert results.put(first[1:3]) == []
    assert results.last_step == 4
    # Overlapping and longer: only what is new is added.
    more = rows([1.0], first=5, digest=first[-1].digest)
    assert results.put([*first[2:], *more]) == []
    assert list(results.rows()) == [*first, *more]
    # From step 3 on the bits are others: the new ones hold, the old ones come back.
    other = rows([2.5, 1.5], first=3, digest=first[1].digest)
    assert results.put([first[1], *other]) == [*first[2:], *more]
    assert list(results.rows()) == [*first[:2], *other]
    assert (results.last_step, results.last_digest) == (4, other[-1].digest)
    results.close()
    reopened = Results(tmp_path / "results.sqlite")
    assert list(reopened.rows()) == [*first[:2], *other]
    assert reopened.digest(2) == first[1].digest
    assert reopened.digest(0) == "0" * 32
    assert reopened.digest(9) is None
    reopened.close()


def test_rows_with_a_gap_are_no_results(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.sqlite")
    made = rows([5.0, 4.0, 3.0])
    with pytest.raises(ValueError, match="do not follow"):
        results.put(made[1:])
    with pytest.raises(ValueError, match="do not follow"):
        results.put([made[0], made[2]])
    assert results.last_step == 0
    results.close()


@given(cuts=st.lists(st.tuples(st.integers(0, 29), st.integers(1, 30)), max_size=20))
def test_any_pieces_in_any_order_with_repeats_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int]]
) -> None:
    results = Results(tmp_path_factory.mktemp("results") / "results.sqlite")
    whole = rows([float(n) for n in range(30)])
    for start, length in cuts:
        if start <= results.last_step:
            assert results.put(whole[start : start + length]) == []
    results.put(whole)
    assert list(results.rows()) == whole
    results.close()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "_sync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_torn_last_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append_durably(path, b"one")
    with path.open("ab") as file:
        file.write(b"tor")
    append_durably(path, b"two")
    assert path.read_bytes() == b"one\ntor\ntwo\n"
