"""The command line as a user's shell runs it: processes, their two outputs, their status."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.servers import RunningServer, start_server

TOKEN = "s3cret-token"
COMMAND = [sys.executable, "-c", "from omega21.cli.app import main; main()"]


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def figures(self) -> dict[str, Any]:
        """The JSON object that is the last line of standard output; before it are events."""
        *events, last = self.stdout.splitlines()
        assert all("event" in json.loads(line) for line in events)
        found = json.loads(last)
        assert isinstance(found, dict)
        return found


class Omega21(Protocol):
    """Runs `omega21` with these arguments and waits for its end."""

    def __call__(self, *arguments: str | Path, stdin: str = "", **environment: str) -> Finished: ...


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a token, for the tests that do not harm it."""
    folder = tmp_path_factory.mktemp("server") / "data"
    with start_server(folder, "--threads", "1", "--allow-code", token=TOKEN) as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a command: a home of its own, 80 columns, no server named or known."""
    kept = {name: text for name, text in os.environ.items() if name not in _OURS}
    places = {
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "OMEGA21_SERVERS": str(tmp_path / "servers"),
    }
    return {**kept, **places, "COLUMNS": "80"}


_OURS = {"COLAB_SERVER_URL", "OMEGA21_TOKEN", "NO_COLOR", "FORCE_COLOR", "TERM"}


@pytest.fixture
def omega21(environment: dict[str, str], tmp_path: Path) -> Omega21:
    def run(*arguments: str | Path, stdin: str = "", **more: str) -> Finished:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            check=False,
            capture_output=True,
            encoding="utf-8",
            input=stdin,
            env={**environment, **more},
            cwd=tmp_path,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def server_environment(server: RunningServer) -> dict[str, str]:
    """What names the shared server to a command."""
    return {"COLAB_SERVER_URL": server.address, "OMEGA21_TOKEN": TOKEN}


@pytest.fixture
def on_server(omega21: Omega21, server_environment: dict[str, str]) -> Omega21:
    """Runs commands that find the shared server in their environment."""

    def run(*arguments: str | Path, stdin: str = "", **more: str) -> Finished:
        return omega21(*arguments, stdin=stdin, **{**server_environment, **more})

    return run


@pytest.fixture
def started(
    environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts commands that a test talks to, or kills; each is ended with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
            cwd=tmp_path,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
