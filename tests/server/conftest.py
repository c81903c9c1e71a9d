"""A server process for the tests that change nothing the others see, and apps without a socket."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.server.app import create_app
from omega21.server.auth.access import Access
from tests.engine.local_device import local_engine
from tests.servers import RunningServer, start_server

ENGINE = EngineOptions(device="cpu", threads=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data_dir = tmp_path_factory.mktemp("server") / "data"
    with start_server(data_dir, "--device", "cpu", "--threads", "1") as running:
        yield running


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = local_engine(tmp_path / "data", ENGINE)
    engine.start()
    yield engine
    assert engine.stop(60)  # a step of warming up cannot be interrupted
    engine.close()


@pytest.fixture
def transport(engine: Engine) -> httpx.ASGITransport:
    """The application, called without a socket, as from this machine and without a token."""
    return httpx.ASGITransport(create_app(engine, access=Access()))


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio alone."""
    return "asyncio"
