"""Models that end, block, multiply or flood their process: named, and no other run notices.

Each trains beside another run of the same server, whose weights come out as they always do.
"""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from omega21 import AsyncClient
from omega21.protocol.errors import TaskFailed
from omega21.protocol.tasks.task import CodeTask
from tests.client.runs import done, stored, train
from tests.client.training.test_own_model import own, sources_of
from tests.servers import RunningServer, start_server

pytestmark = pytest.mark.anyio

STEP_SECONDS = 8

NET = """
import ctypes, os, shutil, signal, sys, time
import torch
from torch import nn

HERE = os.path.dirname(__file__)
HOME = os.getcwd()


class Net(nn.Linear):
    steps = 0

    def forward(self, x):
        self.steps += self.training
        {in_forward}
        return super().forward(x.flatten(1))


def build(schema):
    {in_build}
    return Net(16, 10)
"""

HARMLESS = ("pass", "pass")
BEFORE = {
    "ends": ("pass", "os._exit(3)", r"ended its process while it was checked: exit status 3"),
    "hangs": ("pass", "time.sleep(1e6)", rf"while it was checked: no answer within {STEP_SECONDS}"),
    "needs_memory": ("pass", "torch.ones(50 * 10**12)", r"net\.py:\d+: RuntimeError: .*memory"),
}
"""What a model does in `forward`, in `build`, and what is said before samples go up."""

DURING = {
    "ends": ("self.steps > 12 and os._exit(3)", "3 times in a row: exit status 3"),
    "hangs": ("self.steps > 12 and time.sleep(1e6)", "3 times in a row: no answer within 8 s"),
    "crashes": ("self.steps > 12 and ctypes.string_at(0)", "3 times in a row: SIGSEGV"),
    "is_killed": ("self.steps > 12 and os.kill(0, signal.SIGKILL)", "3 times in a row: SIGKILL"),
    "exits": ("self.steps > 12 and sys.exit(4)", r"net\.py:\d+: SystemExit: 4"),
}
"""What a model does in its thirteenth step, and what the run fails with."""

SURVIVED = {
    "forks": ("self.steps == 12 and os.fork()", "pass"),
    "forks_where_it_is_built": ("pass", "os.fork()"),
    "floods_its_log": ("sys.stdout.write('x' * 999 + chr(10)) and print('y' * 10**6)", "pass"),
    "removes_its_folders": (
        "self.steps == 12 and (shutil.rmtree(os.path.dirname(HOME)), shutil.rmtree(HERE))",
        "pass",
    ),
    "kills_its_parent_once": (
        "self.steps == 12 and not os.path.exists(HERE + '/../killed') and "
        "(open(HERE + '/../killed', 'w').close(), os.kill(os.getppid(), signal.SIGKILL))",
        "pass",
    ),
}
"""What a model does and yet trains, to the bits that it has without."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    options = ("--threads", "1", "--allow-code", "--step-timeout", str(STEP_SECONDS))
    with start_server(tmp_path_factory.mktemp("server") / "data", *options) as running:
        yield running


def add(server: RunningServer, in_forward: str, in_build: str) -> CodeTask:
    text = NET.format(in_forward=in_forward, in_build=in_build)
    return sources_of(server).add({"net.py": text})


@pytest.fixture(scope="module")
def undisturbed(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[int, float, str]]:
    """The rows of the harmless model, of a training that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")

    async def trained() -> None:
        async with AsyncClient(server.address, token=server.token) as client:
            order = own("undisturbed", add(server, *HARMLESS), epochs=4)
            assert done(await train(client, order, workdir=folder)).summary.steps == 28

    anyio.run(trained)
    return stored(folder / "undisturbed")


async def train_beside(
    server: RunningServer, name: str, task: CodeTask, folder: Path
) -> list[tuple[int, float, str]]:
    """Train a model beside the harmless one; the rows of that."""
    neighbour = f"beside-{name}"

    async def beside() -> None:
        async with AsyncClient(server.address, token=server.token) as client:
            await train(client, own(neighbour, add(server, *HARMLESS), epochs=4), workdir=folder)

    async with (
        AsyncClient(server.address, token=server.token) as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(beside)
        error = await failure(client, name, task, folder)
    if error is not None:
        raise error
    return stored(folder / neighbour)


async def failure(
    client: AsyncClient, name: str, task: CodeTask, folder: Path
) -> TaskFailed | None:
    try:
        await train(client, own(name, task, epochs=4), workdir=folder)
    except TaskFailed as error:
        return error
    return None


def rows_beside(folder: Path, name: str) -> list[tuple[int, float, str]]:
    return stored(folder / f"beside-{name}")


@pytest.mark.parametrize("name", BEFORE)
async def test_a_model_that_fails_at_once_is_named_before_samples_go_up(
    server: RunningServer, tmp_path: Path, undisturbed: list[tuple[int, float, str]], name: str
) -> None:
    in_forward, in_build, message = BEFORE[name]
    run = f"before-{name.replace('_', '-')}"
    with pytest.raises(TaskFailed, match=message):
        await train_beside(server, run, add(server, in_forward, in_build), tmp_path)
    assert not (tmp_path / run).exists()
    async with AsyncClient(server.address, token=server.token) as client:
        assert run not in {summary.run for summary in await client.api.runs.all()}
    assert rows_beside(tmp_path, run) == undisturbed


@pytest.mark.parametrize("name", DURING)
async def test_a_model_that_fails_later_ends_its_own_run_alone(
    server: RunningServer, tmp_path: Path, undisturbed: list[tuple[int, float, str]], name: str
) -> None:
    in_forward, message = DURING[name]
    run = f"during-{name.replace('_', '-')}"
    with pytest.raises(TaskFailed, match=message):
        await train_beside(server, run, add(server, in_forward, "pass"), tmp_path)
    assert stored(tmp_path / run) == undisturbed[: len(stored(tmp_path / run))] != []
    assert rows_beside(tmp_path, run) == undisturbed


@pytest.mark.parametrize("name", SURVIVED)
async def test_what_a_model_does_beside_its_training_changes_nothing(
    server: RunningServer, tmp_path: Path, undisturbed: list[tuple[int, float, str]], name: str
) -> None:
    run = f"survived-{name.replace('_', '-')}"
    task = add(server, *SURVIVED[name])
    assert await train_beside(server, run, task, tmp_path) == undisturbed
    assert stored(tmp_path / run) == undisturbed


async def test_the_log_of_a_flood_is_bounded(server: RunningServer, tmp_path: Path) -> None:
    task = add(server, "print('z' * 10**6)", "pass")
    async with AsyncClient(server.address, token=server.token) as client:
        await train(client, own("flood", task, epochs=4), workdir=tmp_path)
        log = await client.api.runs.log("flood")
    assert 0 < sum(len(line.text) for line in log.lines) < 2_000_000
