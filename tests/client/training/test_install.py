"""A model that needs a package: installed by consent, there after a kill and on another server."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from omega21 import AsyncClient
from omega21.client.events import StepsDone
from omega21.client.request.model import with_model
from omega21.client.request.request import TrainRequest
from omega21.client.training.options import TrainOptions
from omega21.protocol.errors import CodeNotAllowed, ImportFailed
from tests.client.runs import done, stored, train
from tests.client.training.test_own_model import DATA
from tests.engine.storage.test_requirements import write_wheel
from tests.servers import RunningServer, start_server

pytestmark = pytest.mark.anyio

NET = """\
# /// script
# dependencies = ["omega_probe_t>=1"]
# ///
import omega_probe_t
from torch import nn


def build(schema):
    assert omega_probe_t.VALUE == 21
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Linear(12, 10))
"""

Start = Callable[..., RunningServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers whose pip knows one folder of packages, and no index."""
    packages = tmp_path / "packages"
    packages.mkdir()
    write_wheel(packages, "omega_probe_t", needs="numpy")
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages)}
    with ExitStack() as held:
        yield lambda name, *options: held.enter_context(
            start_server(
                tmp_path / name, "--threads", "1", "--allow-code", *options, environment=environment
            )
        )


def own(run: str, folder: Path, *, install: bool = True) -> TrainRequest:
    (folder / "net.py").write_text(NET, encoding="utf-8")
    order = TrainRequest(run=run, data=DATA, samples=50, validation=10, batch_size=10, epochs=40)
    return with_model(order, f"{folder / 'net.py'}:build", install=install)


def client_of(server: RunningServer) -> AsyncClient:
    return AsyncClient(server.address, token=server.token)


async def test_it_is_installed_once_and_wherever_the_run_goes(start: Start, tmp_path: Path) -> None:
    first, second = start("first", "--allow-install"), start("second", "--allow-install")
    async with client_of(first) as client:
        options = TrainOptions(workdir=tmp_path)
        is_killed = False
        async with client.train(own("needs", tmp_path), options) as events:
            async for event in events:
                if isinstance(event, StepsDone) and not is_killed:
                    first.kill_child()
                    is_killed = True
                elif is_killed and isinstance(event, StepsDone) and event.rows[-1].step > 60:
                    break
    assert is_killed
    assert first.log.count("installing requirements of a source") == 1
    first.kill()
    shutil.rmtree(first.data_dir)
    async with client_of(second) as client:
        async with client.resume("needs", TrainOptions(workdir=tmp_path)) as events:
            moved = [event async for event in events]
        whole = await train(client, own("whole", tmp_path), workdir=tmp_path)
    assert second.log.count("installing requirements of a source") == 1
    assert done(moved).summary.steps == 200
    assert done(moved).summary.weights_sha256 == done(whole).summary.weights_sha256
    assert stored(tmp_path / "needs") == stored(tmp_path / "whole")


async def test_without_either_consent_nothing_is_installed(start: Start, tmp_path: Path) -> None:
    server = start("strict")
    async with client_of(server) as client:
        with pytest.raises(ImportFailed, match="No module named 'omega_probe_t'"):
            await train(client, own("unasked", tmp_path, install=False), workdir=tmp_path)
        with pytest.raises(CodeNotAllowed, match="the server installs no requirements"):
            await train(client, own("refused", tmp_path), workdir=tmp_path)
        assert not {"unasked", "refused"} & {one.run for one in await client.api.runs.all()}
    assert "installing" not in server.log
