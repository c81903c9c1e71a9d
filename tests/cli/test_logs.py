"""The log of a user's commands: one file, a level of their choice, the server's ids, no token."""

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

from omega21.logs import CLIENT_LOG, SERVER_LOG
from omega21.protocol import PROTOCOL_VERSION
from tests.cli.conftest import TOKEN, Omega21
from tests.servers import RunningServer


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_training_is_logged_with_its_run_and_the_ids_that_the_server_gave(
    on_server: Omega21, server: RunningServer, tmp_path: Path
) -> None:
    done = on_server(
        "train", server.address, "--run", "logged", "--samples", "300", "--validation", "0"
    )
    assert done.status == 0, done.stderr
    path = tmp_path / "data" / "omega21" / CLIENT_LOG
    lines = lines_of(path)
    assert lines[0]["message"].startswith("omega21 train, version ")
    requests = [line for line in lines if line["logger"] == "omega21.http"]
    assert [line for line in requests if line["run"] == "logged"]
    assert [line for line in requests if line.get("step") == 5]
    theirs = {line.get("request") for line in lines_of(server.data_dir / SERVER_LOG)}
    ours = {line["request"] for line in requests}
    assert len(ours - theirs) <= 1  # what comes before the token is shown is counted, not listed
    assert TOKEN not in path.read_text(encoding="utf-8")
    assert TOKEN not in (server.data_dir / SERVER_LOG).read_text(encoding="utf-8")


def test_the_level_is_the_users(on_server: Omega21, tmp_path: Path) -> None:
    path = tmp_path / "data" / "omega21" / CLIENT_LOG
    assert on_server("--log-level", "error", "status").status == 0
    assert not path.exists()
    assert on_server("status", "--run", "nobody", OMEGA21_LOG_LEVEL="error").status != 0
    (line,) = lines_of(path)
    assert line["level"] == logging.getLevelName(logging.ERROR).lower()
    assert "nobody" in line["message"]
    assert on_server("status", OMEGA21_LOG_LEVEL="chatty").status == 2


def test_verbose_shows_requests_and_the_file_keeps_its_level(
    on_server: Omega21, tmp_path: Path
) -> None:
    shown = on_server("--log-level", "warning", "status", "-v")
    assert "GET /status" in shown.stderr
    assert not (tmp_path / "data" / "omega21" / CLIENT_LOG).exists()
    assert "GET /status" not in on_server("--log-level", "debug", "status").stderr


def test_the_doctor_writes_a_bundle_that_holds_what_it_found(
    on_server: Omega21, tmp_path: Path
) -> None:
    done = on_server("doctor", "--bundle", "--run", "nobodys")
    assert done.status == 0, done.stderr
    said = "the support bundle is omega21-bundle.zip: check its contents before you send it"
    assert said in done.stderr
    with zipfile.ZipFile(tmp_path / "omega21-bundle.zip") as archive:
        found = json.loads(archive.read("doctor.json"))
        assert json.loads(archive.read("server/info.json"))[0]["protocol"] == PROTOCOL_VERSION
        assert TOKEN.encode() not in b"".join(map(archive.read, archive.namelist()))
    assert found["ok"] is True
    assert "address" in [check["name"] for check in found["checks"]]


def test_a_bundle_without_a_server_and_one_that_cannot_be_written(
    omega21: Omega21, tmp_path: Path
) -> None:
    done = omega21("doctor", "ftp://nowhere", "--bundle", "-o", "bundle.zip")
    assert done.status == 13
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert not [name for name in archive.namelist() if name.startswith("server/")]
    done = omega21("doctor", "ftp://nowhere", "--bundle", "-o", "no/where/bundle.zip")
    assert done.status == 2
    assert "no/where" in done.stderr
