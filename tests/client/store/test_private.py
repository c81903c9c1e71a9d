"""What is kept of a training is its user's alone, on both machines, whatever the umask was."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omega21.client.request.request import TrainRequest
from omega21.client.store.run_folder import RunFolder
from omega21.client.sync import Client
from omega21.client.training.options import TrainOptions
from omega21.data.durable import make_private_folder, open_private
from tests.servers import start_server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
ORDER = TrainRequest(run="r", samples=32, batch_size=8, validation=0)
COMMAND = [sys.executable, "-c", "from omega21.cli.app import main; main()"]


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """Let everybody read what is made, as most machines do."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(*folders: Path) -> list[str]:
    """Name what another user could look into."""
    found = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    assert len(found) > len(folders)
    return [
        f"{path} {stat.filemode(path.lstat().st_mode)}"
        for path in found
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]


def test_a_whole_training_is_its_users_alone(tmp_path: Path) -> None:
    home, data, mirror = tmp_path / "home", tmp_path / "data", tmp_path / "mirror"
    mirror.mkdir(mode=0o700)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("OMEGA")}
    environment |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
    home.mkdir(mode=0o700)

    def omega21(*words: str) -> None:
        subprocess.run([*COMMAND, *words], check=True, env=environment, cwd=home)

    how = ("--threads", "1", "--checkpoint-seconds", "0.1", "--mirror", str(mirror))
    with start_server(data, *how, token="s3cret-token") as server:
        where = ("--token", "s3cret-token", "--pull-checkpoints", "end", "-q")
        small = ("--samples", "32", "--batch-size", "8", "--validation", "8")
        omega21("train", server.address, *where, *small, "--run", "r")
        omega21("export", "results", "r", "-o", str(home / "r.csv"), "-q")
        omega21("runs", "export", "r", "-o", str(home / "r.zip"), "-q")
        omega21("runs", "import", str(home / "r.zip"), "--workdir", str(home / "other"), "-q")
        omega21("doctor", "--bundle", "-q")
        assert open_to_others(home, data, mirror) == []
    assert open_to_others(home, data, mirror) == []


def test_the_python_client_keeps_to_its_user_too(tmp_path: Path) -> None:
    with (
        start_server(tmp_path / "data", "--threads", "1", token="s3cret-token") as server,
        Client(server.address, token="s3cret-token") as client,
    ):
        list(
            client.train(
                ORDER, TrainOptions(workdir=tmp_path / "w", pull="end", loggers=("tensorboard",))
            )
        )
    assert open_to_others(tmp_path / "w" / "r", tmp_path / "data") == []


def test_an_older_run_folder_is_closed_when_it_is_opened(tmp_path: Path) -> None:
    with (
        start_server(tmp_path / "data", "--threads", "1") as server,
        Client(server.address) as client,
    ):
        list(client.train(ORDER, TrainOptions(workdir=tmp_path / "w")))
    folder = tmp_path / "w" / "r"
    folder.chmod(0o755)
    with RunFolder.open(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_all_may_write_to_stays_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    make_private_folder(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_a_file_is_private_from_its_first_byte(tmp_path: Path) -> None:
    with open_private(tmp_path / "file", "xb") as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
