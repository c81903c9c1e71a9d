"""A newcomer's own model by commands alone: trained, killed in every way, moved, verified, used."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from omega21.data.sources.files import read_tensors
from tests.cli.conftest import Omega21
from tests.servers import RunningServer, start_server

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="NOT TESTED: processes are found by Linux's /proc"
)

Start = Callable[..., subprocess.Popen[str]]

NET = """
from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return nn.functional.relu(x + self.body(x))


class ResNet(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.Sequential(Block(channels), Block(channels))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.LazyLinear(classes))

    def forward(self, image):
        return self.head(self.blocks(self.stem(image)))


def build(schema, *, channels=8, classes=4):
    import torch

    net = ResNet(channels, classes)
    net(torch.zeros(2, *schema.inputs["image"].shape))
    return net


def predictions(outputs):
    return {"label": outputs.argmax(1), "probability": outputs.softmax(1)}
"""
EPOCHS, STEPS = 40, 640
ORDER = (
    *("--model", "net.py:build", "--data", "images.npz", "--targets", "label"),
    *("--epochs", str(EPOCHS), "--batch-size", "16", "--validation", "64", "--optimizer", "adamw"),
    *("--lr", "0.01", "--set", "channels=4", "--no-tensorboard"),
)
SERVER = ("--threads", "1", "--allow-code", "--step-timeout", "10", "--checkpoint-seconds", "1")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RunningServer, RunningServer]]:
    """Two servers that know nothing of each other."""
    with (
        start_server(tmp_path / "first", *SERVER) as first,
        start_server(tmp_path / "second", *SERVER) as second,
    ):
        yield first, second


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The newcomer's folder: a model, and images of four classes that differ in a corner."""
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 320)
    image = rng.normal(size=(320, 1, 8, 8)).astype(np.float32)
    for row, of in zip(image, label, strict=True):
        row[0, 4 * (of // 2) : 4 * (of // 2) + 4, 4 * (of % 2) : 4 * (of % 2) + 4] += 1.5
    np.savez(tmp_path / "images.npz", image=image, label=label)
    return tmp_path


def last_step(home: Path) -> int:
    path = home / "mine" / "results.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'steps'").fetchone():
            return 0  # it is just being made
        found: int = database.execute("SELECT coalesce(max(step), 0) FROM steps").fetchone()[0]
        return found


def wait_for_step(home: Path, step: int, client: "subprocess.Popen[str]") -> None:
    """Wait until a step is stored here; the client is at work meanwhile."""
    deadline = time.monotonic() + 120
    while last_step(home) < step:
        assert client.poll() is None, client.communicate()[1]
        assert time.monotonic() < deadline
        os.sched_yield()


def test_it_trains_whatever_is_killed_moves_is_verified_and_predicts(
    servers: tuple[RunningServer, RunningServer], home: Path, started: Start, omega21: Omega21
) -> None:
    first, second = servers
    train = started("train", first.address, "--run", "mine", *ORDER, "--workdir", home)
    for step, number in ((20, signal.SIGKILL), (60, signal.SIGSEGV), (100, signal.SIGSTOP)):
        wait_for_step(home, step, train)
        for pid in first.executor_pids():
            os.kill(pid, number)
    wait_for_step(home, 160, train)
    first.kill_child()
    wait_for_step(home, 220, train)
    first.kill()
    first.restart()
    wait_for_step(home, 280, train)
    train.kill()
    train.communicate()

    # By now the server has gone on by itself, perhaps to the end: the second one has nothing of it.
    first.kill()
    moved = omega21("resume", "mine", "--url", second.address, "--workdir", home)
    verified = omega21("verify", "mine", "--url", second.address, "--workdir", home)
    whole = omega21("train", second.address, "--run", "whole", *ORDER, "--workdir", home, "--json")
    predicted = omega21(
        "predict", "mine", "images.npz", "--url", second.address, "-o", "found.safetensors",
        "--workdir", home,
    )  # fmt: skip

    assert moved.status == 0, moved.stderr
    assert verified.status == 0, verified.stderr
    assert f"steps 1 to {STEPS}" in verified.stdout
    assert whole.status == 0, whole.stderr
    assert whole.figures["steps"] == STEPS
    assert rows(home / "mine") == rows(home / "whole")
    assert whole.figures["weights_sha256"] in moved.stdout
    assert predicted.status == 0, predicted.stderr
    found = read_tensors(home / "found.safetensors", None)
    assert found["probability"].shape == (320, 4)
    with np.load(home / "images.npz") as given:
        assert (found["label"][:] == given["label"]).mean() > 0.8


def rows(folder: Path) -> list[tuple[int, float, str]]:
    with closing(sqlite3.connect(folder / "results.sqlite")) as database:
        return database.execute("SELECT step, loss, digest FROM steps ORDER BY step").fetchall()
