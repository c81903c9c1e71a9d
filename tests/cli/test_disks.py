"""A disk that refuses: each way has its status and hint, and nothing is left half written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from omega21.protocol.errors import DiskFull, LocksUnsupported
from tests.cli.conftest import Omega21
from tests.client.folders import make_run
from tests.programs import require_program

NO_FLOCK = """
#include <errno.h>
int flock(int fd, int op) { (void)fd; (void)op; errno = WHY; return -1; }
"""

WRITERS = {
    "generate .npz": ("x.npz", ("generate", "x.npz", "--samples", "2")),
    "generate .safetensors": ("x.safetensors", ("generate", "x.safetensors", "--samples", "2")),
    "runs export": ("r.zip", ("runs", "export", "one", "--workdir", "runs", "-o", "r.zip")),
    "report": ("r.html", ("report", "one", "--workdir", "runs", "-o", "r.html")),
    "export results": ("r.csv", ("export", "results", "one", "--workdir", "runs", "-o", "r.csv")),
}


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a file's size")
@pytest.mark.parametrize(("left", "command"), WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_named_and_what_was_there_stays(
    left: str, command: tuple[str, ...], environment: dict[str, str], tmp_path: Path
) -> None:
    make_run(tmp_path / "runs", "one")
    place = tmp_path / "here"
    place.mkdir()
    shutil.move(tmp_path / "runs", place / "runs")
    call = f"ulimit -f 0; exec {sys.executable} -m omega21 {' '.join(command)}"

    done = subprocess.run(
        ["sh", "-c", call], cwd=place, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == DiskFull.exit_code, done.stderr
    assert f"error: {left}: " in done.stderr
    assert "free space" in done.stderr
    assert [path.name for path in place.iterdir()] == ["runs"]


@pytest.mark.skipif(sys.platform != "linux", reason="a shim before the C library")
@pytest.mark.parametrize("why", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_named(why: str, omega21: Omega21, tmp_path: Path) -> None:
    gcc = require_program("gcc")
    (tmp_path / "noflock.c").write_text(NO_FLOCK)
    shim = tmp_path / "noflock.so"
    source = str(tmp_path / "noflock.c")
    subprocess.run([gcc, "-shared", "-fPIC", f"-DWHY={why}", "-o", shim, source], check=True)
    make_run(tmp_path / "runs", "one")

    for command in (
        ("runs", "export", "one", "--workdir", "runs", "-o", "r.zip"),
        ("serve", "--port", "0", "--data-dir", "data"),
    ):
        done = omega21(*command, LD_PRELOAD=str(shim))
        assert done.status == LocksUnsupported.exit_code, done.stderr
        assert "a disk of this machine" in done.stderr
