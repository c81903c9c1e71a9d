"""The examples of a model of one's own: trained on a real server, and used as their pages say."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from omega21 import Client
from tests.servers import RunningServer, start_server

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True, kw_only=True)
class Example:
    """What is trained of an example in a test, and what comes of it."""

    data: str
    of: str | None = None
    """The example whose data it uses; by default its own."""
    options: tuple[str, ...]
    loss: tuple[float, float]
    """Loss of the first step, at least, and of held-out samples at the end, at most."""
    accuracy: float = 0
    outputs: dict[str, tuple[int, ...]]


MODELS = {
    "digits": Example(
        data="digits.npz",
        options=("--epochs=4", "--set=channels=16"),
        loss=(1.8, 0.5),
        accuracy=0.9,
        outputs={"probability": (10,), "label": ()},
    ),
    "language_model": Example(
        data="text.npz",
        options=(
            "--targets=following",
            "--samples=640",
            "--epochs=2",
            "--set=width=64",
            "--set=layers=1",
        ),
        loss=(5.0, 3.0),
        accuracy=0.15,
        outputs={"probability": (256,)},
    ),
    "autoencoder": Example(
        data="pixels.npz",
        options=("--epochs=4",),
        loss=(0.2, 0.05),
        outputs={"code": (8,), "reconstruction": (64,), "error": ()},
    ),
    "forecaster": Example(
        data="series.npz",
        options=("--epochs=2", "--set=hidden=32"),
        loss=(0.4, 0.2),
        outputs={"forecast": (24,)},
    ),
    "two_files": Example(
        data="digits.npz",
        of="digits",
        options=("--epochs=6",),
        loss=(1.8, 0.9),
        accuracy=0.75,
        outputs={"probability": (10,), "label": ()},
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("own") / "data"
    with start_server(folder, "--threads", "1", "--device", "cpu", "--allow-code") as running:
        yield running


def run_program(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, command)],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONUTF8": "1", "XDG_DATA_HOME": str(folder)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", MODELS)
def test_an_example_learns_and_predicts(name: str, server: RunningServer, tmp_path: Path) -> None:
    example = MODELS[name]
    said = run_program(EXAMPLES / (example.of or name) / "data.py", folder=tmp_path)
    assert example.data in said

    model = f"{EXAMPLES / name / 'net.py'}:build"
    last = run_program(
        *("-m", "omega21", "train", server.address, "--model", model, "--data", example.data),
        *("--run", name, "--validation", "200", "--batch-size", "32", "--lr", "0.003"),
        *("--no-report", "--no-tensorboard", "--json", *example.options),
        folder=tmp_path,
    ).splitlines()[-1]
    with Client(server.address) as client:
        inputs = {key: array[:5] for key, array in np.load(tmp_path / example.data).items()}
        found = client.predict(name, inputs)

    summary = json.loads(last)
    assert summary["loss_first"] >= example.loss[0]
    assert summary["validation_loss"] <= example.loss[1]
    assert summary["metrics"].get("accuracy", 0) >= example.accuracy
    assert {key: array.shape[1:] for key, array in found.outputs.items()} == example.outputs
    assert len(found) == 5
    if name == "language_model":
        script = EXAMPLES / name / "sample.py"
        text = run_program(script, server.address, name, "The run", "4", folder=tmp_path)
        assert text.startswith("The run")
        assert 1 <= len(text) - len("The run\n") <= 4  # bytes, some of which may be one letter


def test_digits_are_learnt_through_scikit_learn(server: RunningServer, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(EXAMPLES / "digits", folder)
    said = run_program("sklearn_digits.py", server.address, "5", folder=folder)

    found = re.fullmatch(r"run (\S+): (0\.\d+) of 450 digits right\n", said)
    assert found
    assert float(found[2]) > 0.8
    with Client(server.address) as client:
        assert found[1] in {run.run for run in client.runs()}
