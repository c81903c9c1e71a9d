"""Real servers for the tests of the client."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import RunningServer, start_server

OPTIONS = ("--threads", "1", "--allow-code", "--max-runs", "1000")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for the tests that do not harm it."""
    folder = tmp_path_factory.mktemp("server") / "data"
    with start_server(folder, *OPTIONS, token="s3cret-token") as running:
        yield running


@pytest.fixture(scope="session")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that has nothing of what the first one has, at another address."""
    folder = tmp_path_factory.mktemp("other") / "data"
    with start_server(folder, *OPTIONS, token="s3cret-token") as running:
        yield running


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[[str], RunningServer]]:
    """Starts servers of this test's own, each on a data folder of its own."""
    started: list[RunningServer] = []

    def start(name: str) -> RunningServer:
        started.append(start_server(tmp_path / name, "--threads", "1", "--allow-code"))
        return started[-1]

    yield start
    for running in started:
        running.__exit__(None, None, None)
