"""A model of the user's own over a real connection: checked first, trained, killed, predicted."""

import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omega21 import AsyncClient
from omega21.client.events import Event, Notice, StepsDone
from omega21.client.request.request import TrainRequest
from omega21.client.training.options import TrainOptions
from omega21.language import speaking
from omega21.protocol.errors import ImportFailed, TaskFailed
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.tasks.task import CodeTask
from tests.client.runs import done, of_type, stored, train
from tests.models.code.sources import Arrays, Sources, make_batch, schema
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

IMAGES = schema({"x": ("float32", (1, 4, 4))}, {"y": ("int64", ())})
DATA: Arrays = make_batch(IMAGES, 60)
BATCH_NORM = "nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Linear(12, 10))"


def sources_of(server: RunningServer) -> Sources:
    return Sources(Path(server.data_dir) / "code")


def own(run: str, task: CodeTask, **options: Any) -> TrainRequest:
    fields = {"data": DATA, "samples": 50, "validation": 10, "batch_size": 8, "epochs": 2}
    rate = OptimizerConfig(name="adam", learning_rate=0.01)
    return TrainRequest(run=run, task=task, optimizer=rate, **{**fields, **options})


def net(module: str, *, head: str = "") -> dict[str, str]:
    return {"net.py": f"from torch import nn\n{head}\ndef build(schema):\n    return {module}\n"}


def libraries_of(pid: int) -> str:
    """What a process has in its memory, as Linux lists it."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def client_of(server: RunningServer) -> AsyncClient:
    return AsyncClient(server.address, token=server.token)


async def test_it_trains_is_killed_and_predicts(server: RunningServer, tmp_path: Path) -> None:
    """Batch norm, dropout and augmentation: killed in its middle, the run has the same digest."""
    task = sources_of(server).add_net("batch_norm")
    async with client_of(server) as client:
        whole = await train(client, own("own-whole", task), workdir=tmp_path)
        async with client.train(
            own("own-killed", task, epochs=40), TrainOptions(workdir=tmp_path)
        ) as events:
            killed: list[Event] = []
            async for event in events:
                if isinstance(event, StepsDone) and not killed:
                    server.kill_child()
                killed.append(event)
        again = await train(client, own("own-again", task, epochs=40), workdir=tmp_path)
        predicted = await client.predict("own-whole", DATA["x"])

    assert done(whole).summary.steps == 14
    assert stored(tmp_path / "own-killed") == stored(tmp_path / "own-again")
    assert done(killed).summary.weights_sha256 == done(again).summary.weights_sha256
    assert predicted.outputs["probability"].shape == (60, 10)
    assert predicted.outputs["label"].shape == (60,)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (net("nn.Linear(16, 10)"), r"RuntimeError: mat1 and mat2 shapes"),
        (net("nn.Linear(16, 10 / 0)"), r"net\.py:4: ZeroDivisionError"),
        (
            net(BATCH_NORM, head="def loss(outputs, batch): return outputs"),
            r"net\.py:2: loss: it is",
        ),
    ],
    ids=["shapes", "build", "loss"],
)
async def test_what_fails_is_said_before_anything_is_made(
    server: RunningServer, tmp_path: Path, request: pytest.FixtureRequest, *,
    files: dict[str, str], message: str,
) -> None:  # fmt: skip
    sources, name = sources_of(server), f"own-failed-{request.node.callspec.id}"
    async with client_of(server) as client:
        with pytest.raises(TaskFailed, match=message):
            await train(client, own(name, sources.add(files)), workdir=tmp_path)
        assert name not in {summary.run for summary in await client.api.runs.all()}
        assert not (tmp_path / name).exists()
        good = own(name, sources.add(net(BATCH_NORM)))
        assert done(await train(client, good, workdir=tmp_path)).summary.steps == 14


async def test_each_reader_gets_a_failure_in_their_language(
    server: RunningServer, tmp_path: Path
) -> None:
    """What is said in the process that computes, before the run and in a step of it."""
    early = net(BATCH_NORM, head="def loss(outputs, batch): return outputs")
    later = """
from torch import nn
class Net(nn.Linear):
    steps = 0
    def forward(self, x):
        self.steps += self.training
        outputs = super().forward(x.flatten(1))
        return outputs[None] if self.training and self.steps > 12 else outputs
def loss(outputs, batch):
    return outputs.square().mean() if outputs.dim() == 2 else outputs
def build(schema):
    return Net(16, 10)
"""
    sources = sources_of(server)
    async with client_of(server) as client:
        for files, name in ((early, "own-early"), ({"net.py": later}, "own-late")):
            task = sources.add(files)
            said: dict[str, str] = {}
            for language in ("es", "en", "es"):
                with speaking(language), pytest.raises(TaskFailed) as failed:
                    await train(client, own(name, task), workdir=tmp_path)
                assert said.setdefault(language, failed.value.message) == failed.value.message
            assert said["es"] != said["en"], name
            assert "net.py:" in said["es"]


async def test_an_import_names_the_versions_of_both_sides(
    server: RunningServer, tmp_path: Path
) -> None:
    task = sources_of(server).add(net("None", head="import absent_package"))
    async with client_of(server) as client:
        with pytest.raises(ImportFailed) as failed:
            await train(client, own("own-import", task), workdir=tmp_path)
    here = f"Python {platform.python_version()}, torch "
    assert (
        f"net.py:2: ModuleNotFoundError: No module named 'absent_package' (the server has {here}"
        in (failed.value.message)
    )
    assert f"this machine has {here}" in failed.value.message


async def test_a_last_batch_of_one_sample_is_refused_where_it_would_fail(
    server: RunningServer, tmp_path: Path
) -> None:
    task = sources_of(server).add(net(BATCH_NORM))
    async with client_of(server) as client:
        with pytest.raises(
            TaskFailed, match=r"a batch of one sample cannot be trained: .*--batch-"
        ):
            await train(client, own("own-one", task, samples=49), workdir=tmp_path)
        assert not (tmp_path / "own-one").exists()
        events = await train(client, own("own-one", task, samples=47), workdir=tmp_path)
        assert done(events).summary.steps == 12


async def test_a_step_that_does_not_repeat_is_said(server: RunningServer, tmp_path: Path) -> None:
    text = """
import os
from torch import nn
class Net(nn.Linear):
    def forward(self, x):
        noise = int.from_bytes(os.urandom(3), "big") / 2**24 if self.training else 1.0
        return super().forward(x.flatten(1)) * noise
def build(schema):
    return Net(16, 10)
"""
    task = sources_of(server).add({"net.py": text})
    async with client_of(server) as client:
        events = await train(client, own("own-random", task, epochs=1), workdir=tmp_path)
    assert "step 1 does not repeat" in " ".join(n.text for n in of_type(events, Notice))
    assert np.isfinite([loss for _, loss, _ in stored(tmp_path / "own-random")]).all()


async def test_a_failure_in_a_later_step_is_said_at_once(
    server: RunningServer, tmp_path: Path
) -> None:
    text = """
import torch
from torch import nn
class Net(nn.Linear):
    def __init__(self):
        super().__init__(16, 10)
        self.register_buffer("seen", torch.zeros(()))
    def forward(self, x):
        self.seen += self.training
        if self.seen > 4:
            raise ValueError("enough")
        return super().forward(x.flatten(1))
def build(schema):
    return Net()
"""
    task = sources_of(server).add({"net.py": text})
    async with client_of(server) as client:
        with pytest.raises(TaskFailed, match=r"step 5: net\.py:11: ValueError: enough"):
            await train(client, own("own-later", task), workdir=tmp_path)
        assert [step for step, _, _ in stored(tmp_path / "own-later")] == [1, 2, 3, 4]
        assert (await client.api.runs.state("own-later")).step == 4
        server.kill_child()
        with pytest.raises(TaskFailed, match=r"step 5: net\.py:11: ValueError: enough"):
            await train(client, own("own-later", task), workdir=tmp_path)


async def test_a_server_that_it_moves_to_is_checked_first(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    head = f"import pathlib\nassert not pathlib.Path({str(broken)!r}).exists(), 'not on this one'"
    task = sources_of(server).add(net(BATCH_NORM, head=head))
    here, there = (sources_of(one).folder for one in (server, other_server))
    shutil.copytree(here / task.code_sha256, there / task.code_sha256)
    order, options = own("own-moved", task), TrainOptions(workdir=tmp_path)
    async with client_of(server) as client, client.train(order, options) as events:
        async for event in events:
            if isinstance(event, StepsDone):
                break
    async with client_of(other_server) as client:
        broken.touch()
        with pytest.raises(TaskFailed, match=r"net\.py:3: AssertionError: not on this one"):
            await train(client, order, workdir=tmp_path)
        assert "own-moved" not in {summary.run for summary in await client.api.runs.all()}
        broken.unlink()
        finished = await train(client, order, workdir=tmp_path)
        whole = await train(client, own("own-unmoved", task), workdir=tmp_path)
    assert done(finished).summary.weights_sha256 == done(whole).summary.weights_sha256


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: /proc is of Linux")
async def test_what_serves_has_no_torch_while_it_trains(
    server: RunningServer, tmp_path: Path
) -> None:
    """The libraries of torch are mapped where it computes, and in neither process that serves."""
    task = sources_of(server).add_net("batch_norm")
    mapped: dict[int, str] = {}
    serving = (server.process.pid, server.child_pid())
    async with client_of(server) as client:
        order, options = own("own-mapped", task, epochs=40), TrainOptions(workdir=tmp_path)
        async with client.train(order, options) as events:
            async for event in events:
                if isinstance(event, StepsDone) and not mapped:
                    pids = (*serving, *server.executor_pids())
                    mapped = {pid: libraries_of(pid) for pid in pids}
    assert [("libtorch" in mapped[pid]) for pid in serving] == [False, False]
    assert any("libtorch" in maps for pid, maps in mapped.items() if pid not in serving)
