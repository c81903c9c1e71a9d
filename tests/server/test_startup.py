"""What keeps a server from starting: one line that says why, a status, and no other try."""

import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from omega21.engine.options import EngineOptions
from omega21.protocol.errors import (
    InvalidRequest,
    NotOnThisServer,
    OmegaError,
    RunFolderConflict,
    ServerFailure,
    StorageFull,
)
from omega21.server.auth.token import TOKEN_FILE, server_token
from omega21.server.options import ServeOptions
from omega21.server.sockets import address, bind
from omega21.server.startup import start_errors
from tests.engine.local_device import local_engine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no child there")

COMMAND = (sys.executable, "-m", "omega21.server", "--port", "0", "--device", "cpu")


def start(
    data_dir: Path,
    *options: str,
    environment: dict[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Start a server that does not come up, and wait for its end."""
    return subprocess.run(
        [*COMMAND, "--data-dir", str(data_dir), *options],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "LANGUAGE": "en", **(environment or {})},
        preexec_fn=before,
    )


def check_one_line(
    ended: "subprocess.CompletedProcess[str]", kind: type[OmegaError], said: str
) -> None:
    assert ended.stdout == ""
    # Before the device is known, the server answers already, and its log says so.
    *log, line = ended.stderr.splitlines()
    assert all(" INFO " in logged for logged in log), ended.stderr
    assert line.startswith("error: "), ended.stderr
    assert said in line
    assert ended.returncode == kind.exit_code


def is_a_file(folder: Path) -> Path:
    folder.write_text("not a folder", encoding="ascii")
    return folder


def is_below_a_file(folder: Path) -> Path:
    return is_a_file(folder) / "data"


def is_a_link_to_nothing(folder: Path) -> Path:
    folder.symlink_to(folder.parent / "nothing")
    return folder


def cannot_be_made(_folder: Path) -> Path:
    return Path("/proc/omega21-data")


@pytest.mark.parametrize("made", [is_a_file, is_below_a_file, is_a_link_to_nothing, cannot_be_made])
def test_a_data_folder_that_cannot_be_one(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    folder = made(tmp_path / "data")
    check_one_line(start(folder), RunFolderConflict, f"{folder} cannot be the data folder")


def test_no_room(tmp_path: Path) -> None:
    def no_byte_more() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    check_one_line(start(tmp_path / "data", before=no_byte_more), StorageFull, "has no free space")


@pytest.mark.parametrize("error", ["ImportError", "OSError", "RuntimeError"])
def test_a_torch_that_cannot_be_loaded(tmp_path: Path, error: str) -> None:
    broken = tmp_path / "broken" / "torch"
    broken.mkdir(parents=True)
    text = f"raise {error}('libcudart.so.13: cannot open\\n  shared object file')\n"
    (broken / "__init__.py").write_text(text, encoding="ascii")
    environment = {"PYTHONPATH": f"{broken.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    kinds: dict[str, type[OmegaError]] = {
        "ImportError": NotOnThisServer, "OSError": NotOnThisServer, "RuntimeError": ServerFailure,
    }  # fmt: skip
    ended = start(tmp_path / "data", environment=environment)
    check_one_line(ended, kinds[error], "libcudart.so.13: cannot open shared object file")


@pytest.mark.parametrize("token", [" ", "\t", "abc ", " abc", "a\rb", "a\nb", "\x7f", "\u2028"])
def test_a_token_that_nobody_can_send(tmp_path: Path, token: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a token"):
        ServeOptions(data_dir=tmp_path / "data", host="0.0.0.0", port=0, token=token)
    assert not (tmp_path / "data").exists()


# --- what the child finds ---


def test_a_child_that_cannot_start_says_so_and_is_not_started_again(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "ledger.sqlite").write_bytes(b"no database" * 1000)
    check_one_line(start(data_dir), RunFolderConflict, "ledger.sqlite cannot be read")


def test_a_device_that_is_not_here(tmp_path: Path) -> None:
    ended = start(tmp_path / "data", "--device", "cuda:77")
    check_one_line(ended, InvalidRequest, "device 'cuda:77' is not usable")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that an engine has left in order."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    engine = local_engine(folder, EngineOptions(device="cpu", threads=1))
    engine.start()
    assert engine.stop(60)
    engine.close()
    return folder


def with_a_config_that_is_none(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        db.execute("UPDATE runs SET config = '{'")
        db.commit()


def without_a_table(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        db.execute("DROP TABLE segments")
        db.commit()


def cut_short(folder: Path) -> None:
    whole = (folder / "ledger.sqlite").read_bytes()
    (folder / "ledger.sqlite").write_bytes(whole[: len(whole) // 2])


def of_another_format(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        db.execute("PRAGMA user_version = 99")


def swapped(name: str) -> Callable[[Path], None]:
    """Have a folder where a file belongs, or a file where a folder does."""

    def swap(folder: Path) -> None:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
            path.write_bytes(b"")
        else:
            path.unlink(missing_ok=True)
            path.mkdir()

    return swap


def with_a_server_id_that_is_none(folder: Path) -> None:
    (folder / "server_id").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
    "harm",
    [
        with_a_config_that_is_none,
        without_a_table,
        cut_short,
        of_another_format,
        with_a_server_id_that_is_none,
        *(
            pytest.param(swapped(name), id=name)
            for name in ("ledger.sqlite", "lock", "shards", "incoming", "server_id")
        ),
    ],
)
def test_a_damaged_data_folder(tmp_path: Path, whole: Path, harm: Callable[[Path], None]) -> None:
    folder = tmp_path / "data"
    shutil.copytree(whole, folder)
    harm(folder)
    with pytest.raises(RunFolderConflict) as refused, start_errors(folder):
        local_engine(folder, EngineOptions(device="cpu", threads=1)).start()
    assert refused.value.hint
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kept", [b"", b" \n", b"\xff\xfe\x00", "señal\n".encode()])
def test_a_token_file_that_holds_none(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / TOKEN_FILE).write_bytes(kept)
    with pytest.raises(ValueError, match="is not a token"):
        server_token(tmp_path)


# --- what does not keep it from starting ---


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)], ids=str)
def test_closed_standard_files(tmp_path: Path, closed: tuple[int, ...]) -> None:
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]

    def close() -> None:
        for number in closed:
            os.close(number)

    command = [*COMMAND, "--port", str(port), "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        preexec_fn=close,  # noqa: PLW1509 - no other thread here
    ) as process:
        assert process.stdout is not None
        try:
            if 1 not in closed:
                assert process.stdout.readline().startswith(b"listening on")
            else:  # the socket is there before the process that answers
                with httpx.Client(transport=httpx.HTTPTransport(retries=9)) as http:
                    reply = http.get(f"http://127.0.0.1:{port}/health", timeout=60)
                    assert reply.status_code == 200
        finally:
            process.terminate()
            assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("0.0.0.0", "http://127.0.0.1"),
        pytest.param(
            "::", "http://[::1]", marks=pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
        ),
    ],
)
def test_every_address_is_named_by_one_that_a_client_reaches(host: str, said: str) -> None:
    with bind(host, 0) as sock:
        assert address(sock) == f"{said}:{sock.getsockname()[1]}"
