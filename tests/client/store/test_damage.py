"""Run folders, archives and checkpoints that are damaged, linked or held by somebody else."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest

from omega21 import Client
from omega21.cli.report.file import ReportFormat, write_report
from omega21.client.events import Event, Notice
from omega21.client.store import results as results_module
from omega21.client.store.archive import export_run, import_run
from omega21.client.store.checkpoints import file_sha256, remove_others, seal
from omega21.client.store.results import Results
from omega21.client.store.run_folder import (
    check_removable,
    list_run_folders,
    look_at_run_folders,
    remove_run_folder,
)
from omega21.client.training.locked_files import when_unlocked
from omega21.client.training.options import TrainOptions
from omega21.client.training.upload import is_shard
from omega21.protocol.errors import (
    FileLocked,
    InvalidDataFile,
    OmegaError,
    RunFolderConflict,
)
from tests.client.folders import make_run
from tests.client.runs import tiny
from tests.servers import RunningServer


def _rewritten(path: Path, **changes: object) -> str:
    return json.dumps({**json.loads(path.read_text()), **changes})


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "deep": lambda path: path.write_text("[" * 100_000),
    "infinite date": lambda path: path.write_text(_rewritten(path, created_at=float("inf"))),
    "infinite format": lambda path: path.write_text(_rewritten(path, format=float("inf"))),
    "a date beyond all calendars": lambda path: path.write_text(_rewritten(path, created_at=1e300)),
    "a folder": _as_folder,
    "no plan": lambda path: path.with_name("plan.json").unlink(),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_hides_no_other_and_can_be_removed(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    make_run(tmp_path, "sound")
    damage(make_run(tmp_path, "harmed") / "run.json")

    records, damaged = look_at_run_folders(tmp_path)
    assert [record.run for record in records] == ["sound"]
    assert [(one.run, str(tmp_path / "harmed") in one.error.message) for one in damaged] == [
        ("harmed", True)
    ]
    remove_run_folder(tmp_path / "harmed")
    assert [path.name for path in tmp_path.iterdir()] == ["sound"]


def test_of_a_linked_run_folder_the_link_alone_is_removed(tmp_path: Path) -> None:
    place = make_run(tmp_path / "elsewhere", "one")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "one").symlink_to(place)
    remove_run_folder(tmp_path / "runs" / "one")
    assert not list((tmp_path / "runs").iterdir())
    assert [record.run for record in list_run_folders(tmp_path / "elsewhere")] == ["one"]


def test_a_folder_of_something_else_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(RunFolderConflict, match="no run folder"):
        check_removable(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_what_a_crash_leaves_of_a_run_that_was_removed_can_be_removed(
    server: RunningServer, tmp_path: Path
) -> None:
    with Client(server.address, token=server.token) as client:
        options: dict[str, Any] = {"loggers": ["tensorboard"], "pull": "end"}
        assert list(client.train(tiny("torn"), TrainOptions(workdir=tmp_path, **options)))
    place = tmp_path / "torn"
    for kind in get_args(ReportFormat):
        write_report("torn", workdir=tmp_path, kind=kind)
    # Those that no training leaves: of a run on this machine, of a verification, of W&B, of a kill.
    for name in ("server", "verify", "wandb"):
        (place / name).mkdir()
    killed = "import os, sys; from pathlib import Path; from omega21.data import durable"
    killed += "; durable.sync_file = lambda file: os._exit(9)"
    killed += "; durable.write_durably(Path(sys.argv[1]), b'half')"
    subprocess.run([sys.executable, "-c", killed, place / "plan.json"], check=False)
    assert {"loggers", "tensorboard", "report.html"} <= {path.name for path in place.iterdir()}
    assert list(place.glob(".plan.json.*.tmp"))

    (place / "run.json").unlink()  # what is removed first makes it a folder of nobody's
    remove_run_folder(place)
    assert not place.exists()


@pytest.mark.parametrize("name", ["shards", "results.sqlite", "plan.json", "run.json"])
def test_an_archive_holds_what_links_lead_to(name: str, tmp_path: Path) -> None:
    place = make_run(tmp_path / "runs", "one")
    shutil.move(place / name, tmp_path / name)
    (place / name).symlink_to(tmp_path / name)

    made = export_run("one", tmp_path / "one.zip", workdir=tmp_path / "runs")

    assert (made.samples, made.lacking) == (4, 0)
    back = import_run(tmp_path / "one.zip", workdir=tmp_path / "back")
    assert len(list((back / "shards").iterdir())) == 1


def test_what_an_archive_lacks_is_counted_or_refused(tmp_path: Path) -> None:
    place = make_run(tmp_path / "runs", "one")
    shutil.rmtree(place / "shards")
    made = export_run("one", tmp_path / "one.zip", workdir=tmp_path / "runs")
    assert (made.samples, made.lacking) == (4, 4)
    (place / "shards").symlink_to(tmp_path / "gone")
    with pytest.raises(RunFolderConflict, match="a link to a missing target"):
        export_run("one", tmp_path / "two.zip", workdir=tmp_path / "runs")
    assert not list(tmp_path.glob("*two.zip*"))


@pytest.mark.parametrize("name", [name for name in DAMAGES if name not in ("a folder", "no plan")])
def test_an_archive_of_a_damaged_run_is_refused(name: str, tmp_path: Path) -> None:
    place = make_run(tmp_path / "runs", "one")
    DAMAGES[name](place / "run.json")
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        for path in place.rglob("*"):
            if path.is_file() and path.name != ".lock":
                archive.write(path, path.relative_to(place.parent))
    with pytest.raises(OmegaError):
        import_run(tmp_path / "one.zip", workdir=tmp_path / "back")
    assert not list((tmp_path / "back").iterdir())


def test_an_archive_with_any_changed_bytes_is_refused_or_whole(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "one")
    export_run("one", tmp_path / "one.zip", workdir=tmp_path / "runs")
    whole = (tmp_path / "one.zip").read_bytes()
    chance = random.Random(7)
    for number in range(60):
        changed = bytearray(whole)
        start = chance.choice((0, len(whole) - 600, chance.randrange(len(whole) - 600)))
        for _ in range(chance.randrange(1, 4)):
            changed[start + chance.randrange(600)] ^= 1 << chance.randrange(8)
        (tmp_path / "bad.zip").write_bytes(changed[: chance.choice((len(whole), len(whole) // 2))])
        back = tmp_path / f"back{number}"
        try:
            import_run(tmp_path / "bad.zip", workdir=back)
        except OmegaError:
            assert not back.exists() or not list(back.iterdir())
        else:
            assert len(list_run_folders(back)) == 1


def test_a_locked_archive_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "one")
    export_run("one", tmp_path / "one.zip", workdir=tmp_path / "runs")
    data = bytearray((tmp_path / "one.zip").read_bytes())
    at = -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        data[at + 8] |= 1  # "encrypted"
    (tmp_path / "one.zip").write_bytes(data)
    with pytest.raises(InvalidDataFile, match="password"):
        import_run(tmp_path / "one.zip", workdir=tmp_path / "back")


def test_a_pull_removes_what_was_pulled_and_nothing_else(tmp_path: Path) -> None:
    def checkpoint(step: int) -> Path:
        path = tmp_path / f"{step:012d}.safetensors"
        path.write_bytes(bytes([step]))
        return path

    old, new, unsealed, other = map(checkpoint, (1, 2, 3, 4))
    seal(old, file_sha256(old))
    seal(new, file_sha256(new))
    seal(other, "0" * 64)
    part = tmp_path / f"{5:012d}.{'a' * 64}.part"
    part.write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "my.safetensors").write_text("mine")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / f"{6:012d}.{'a' * 64}.part").mkdir()
    before = {path.name for path in tmp_path.iterdir()}

    remove_others(new)

    gone = before - {path.name for path in tmp_path.iterdir()}
    assert gone == {old.name, old.with_suffix(".sha256").name, part.name}
    assert unsealed.exists()


@pytest.mark.parametrize("harm", [b"", b"truncated", None])
def test_a_damaged_shard_is_seen(harm: bytes | None, tmp_path: Path) -> None:
    (path,) = (make_run(tmp_path, "one") / "shards").iterdir()
    body = path.read_bytes()
    assert is_shard(body, path.stem)
    assert not is_shard(body[:-3] if harm is None else harm, path.stem)
    assert not is_shard(body, "0" * 64)


@pytest.mark.anyio
async def test_a_locked_results_file_is_waited_for_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_module, "BUSY_SECONDS", 0.01)
    path = make_run(tmp_path, "one") / "results.sqlite"
    told: list[Event] = []
    with (
        closing(Results(path)) as results,
        closing(sqlite3.connect(path, check_same_thread=False)) as reader,
    ):
        rows = reader.execute("SELECT step FROM steps UNION ALL SELECT 2 UNION ALL SELECT 3")
        assert next(rows) == (1,)
        with pytest.raises(FileLocked, match=r"results\.sqlite: .*locked"):
            results.put_weights(1, "c" * 64)

        async def emit(event: Event) -> None:
            told.append(event)
            rows.close()  # the other program is done

        await when_unlocked(lambda: results.put_weights(1, "c" * 64), emit=emit)
        assert results.weights(up_to=1) == (1, "c" * 64)
    (notice,) = told
    assert isinstance(notice, Notice)
    assert "waiting for another program" in notice.text
