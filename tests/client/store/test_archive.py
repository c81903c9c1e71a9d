"""A run as one file: what goes in comes out, and nothing else gets in."""

import json
import zipfile
from pathlib import Path

import pytest

from omega21.client.store.archive import export_run, import_run
from omega21.client.store.run_folder import RunFolder, RunRecord
from omega21.models.registry import default_config
from omega21.protocol.digests import CHAIN_START, chain_result
from omega21.protocol.errors import InvalidDataFile, OmegaError, RunFolderConflict
from omega21.protocol.steps import StepRecord


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The archive of a run with a result, a shard, a checkpoint, and what is not to be taken."""
    path = tmp_path / "old" / "mine"
    record = RunRecord(run="mine", id="a" * 32, config=default_config(), created_at=1.0)
    with RunFolder.create(path, record) as folder:
        folder.put_shard("b" * 64, b"a shard")
        digest = chain_result(CHAIN_START, 1, 0.5)
        row = StepRecord(step=1, loss=0.5, samples=4, digest=digest, ended_at=2.0, seconds=0.1)
        folder.results.put([row])
    for name in ("checkpoint/000000000001.safetensors", "checkpoint/1.abc.part", "server/ledger"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"content")
    export_run("mine", tmp_path / "mine.zip", workdir=tmp_path / "old")
    return tmp_path / "mine.zip"


def names(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as opened:
        return set(opened.namelist())


def test_what_defines_the_run_goes_and_what_belongs_to_the_machine_stays(archive: Path) -> None:
    assert names(archive) == {
        "mine/run.json",
        "mine/plan.json",
        "mine/log.jsonl",
        "mine/results.sqlite",
        f"mine/shards/{'b' * 64}.zst",
        "mine/checkpoint/000000000001.safetensors",
    }
    with pytest.raises(RunFolderConflict, match="already exists"):
        export_run("mine", archive, workdir=archive.parent / "old")


def test_an_imported_run_is_the_run(archive: Path, tmp_path: Path) -> None:
    place = import_run(archive, workdir=tmp_path / "new")

    with RunFolder.open(place) as folder, RunFolder.open(tmp_path / "old" / "mine") as old:
        assert folder.record == old.record
        assert list(folder.results.rows()) == list(old.results.rows())
        assert folder.shard("b" * 64) == b"a shard"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine"]
    assert export_run("mine", tmp_path / "again.zip", workdir=tmp_path / "new").size
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_a_run_that_is_here_is_not_overwritten(archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "old" / "mine"
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with pytest.raises(RunFolderConflict, match="on this machine"):
        import_run(archive, workdir=tmp_path / "old")
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "name",
    [
        *("mine/../../evil", "/etc/evil", "mine/shards/../../evil", "mine\\..\\evil", "C:/evil"),
        *("mine/server/ledger", "mine/.lock", "other/run.json", "mine/", "mine/shards/x.zst"),
    ],
)
def test_a_name_that_no_run_folder_has_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(name, b"evil")
    with pytest.raises(InvalidDataFile, match="is not the archive of a run"):
        import_run(archive, workdir=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        ("cut", InvalidDataFile),
        ("flipped", InvalidDataFile),
        ("text", InvalidDataFile),
        ("other name", InvalidDataFile),
        ("newer", RunFolderConflict),
        ("no plan", InvalidDataFile),
    ],
)
def test_a_damaged_or_foreign_archive_is_refused_and_leaves_nothing(
    archive: Path, tmp_path: Path, harm: str, error: type[OmegaError]
) -> None:
    whole = archive.read_bytes()
    if harm == "cut":
        archive.write_bytes(whole[: len(whole) // 2])
    elif harm == "flipped":
        place = whole.index(b"a shard")
        archive.write_bytes(whole[:place] + b"A" + whole[place + 1 :])
    elif harm == "text":
        archive.write_text("not an archive")
    else:
        _rewrite(archive, harm)
    with pytest.raises(error) as caught:
        import_run(archive, workdir=tmp_path / "new")
    assert str(archive) in str(caught.value)
    assert not list((tmp_path / "new").glob("*") if (tmp_path / "new").exists() else [])


def _rewrite(archive: Path, harm: str) -> None:
    with zipfile.ZipFile(archive) as opened:
        content = {name: opened.read(name) for name in opened.namelist()}
    record = json.loads(content["mine/run.json"])
    if harm == "no plan":
        del content["mine/plan.json"]
    else:
        record |= {"run": "other"} if harm == "other name" else {"format": 99}
        content["mine/run.json"] = json.dumps(record).encode()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, data in content.items():
            opened.writestr(name, data)
