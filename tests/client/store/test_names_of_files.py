"""Files whose names are not UTF-8, or act on a terminal, are trained from and asked for again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from omega21.client.store.kept_paths import KeptPath
from omega21.data.sources.files import write_data
from omega21.data.sources.generators import generate
from tests.cli.conftest import COMMAND
from tests.servers import start_server

NAMES = [b"se\xf1al", b"a\x1b[2Jb", b"a\nb", "\u202eb".encode()]


@pytest.mark.parametrize("path", ["/a/b", "/a/se\udcf1al%20.npz", "/ñ/\u202e"])
def test_a_kept_path_comes_back(path: str) -> None:
    kept = TypeAdapter(KeptPath)
    assert kept.validate_json(kept.dump_json(path)) == path


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_run_is_trained_resumed_and_reported(name: bytes, tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(name + b".npz")
    write_data(data, generate("simple", 1, range(16), anomaly_percent=50, features=1600).tensors)
    environment = {**os.environ, "HOME": str(tmp_path), "OMEGA21_SERVERS": ""}
    report = tmp_path / os.fsdecode(name + b".md")
    run = ("--run", "r1", "--workdir", str(tmp_path / "runs"))
    with start_server(tmp_path / "server", "--threads", "1") as server:
        for words in (
            ("train", server.address, "--data", data, "--validation", "4", "--batch-size", "4"),
            ("train", server.address, "--data", data, "--validation", "4", "--batch-size", "4"),
        ):
            done = subprocess.run(
                [*COMMAND, *words, "--no-report", *run],
                capture_output=True,
                env=environment,
                check=False,
            )
            assert b"internal error" not in done.stderr
            assert not {0x1B, 0x9B} & set(done.stderr + done.stdout)
            assert b"\xe2\x80\xae" not in done.stderr + done.stdout
    asked = ["report", *run[1:], "--format", "markdown", "-o", str(report)]
    done = subprocess.run([*COMMAND, *asked], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    text = report.read_text("utf-8")
    assert "\x1b" not in text
    assert "\u202e" not in text
    (line,) = [line for line in text.splitlines() if "--data" in line]
    assert line.startswith("    omega21 train")
    assert line.endswith("--validation 4")
