"""The examples of a model of one's own: trained on a real server, and used as their pages say."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omega21 import Client
from omega21.client.events import Done
from omega21.client.request.request import TrainRequest
from omega21.client.training.options import TrainOptions
from omega21.protocol.optimizers import OptimizerConfig
from tests.examples.sources import put_source
from tests.servers import RunningServer, start_server

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True, kw_only=True)
class Example:
    """What is trained of an example in a test, and what comes of it."""

    data: str
    of: str | None = None
    """The example whose data it uses; by default its own."""
    epochs: int = 4
    batch_size: int = 32
    rate: float = 3e-3
    samples: int | None = None
    targets: tuple[str, ...] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    loss: tuple[float, float]
    """Loss of the first step, at least, and of held-out samples at the end, at most."""
    accuracy: float | None = None
    outputs: dict[str, tuple[int, ...]]


MODELS = {
    "digits": Example(
        data="digits.npz",
        config={"channels": 16},
        loss=(1.8, 0.5),
        accuracy=0.9,
        outputs={"probability": (10,), "label": ()},
    ),
    "language_model": Example(
        data="text.npz",
        targets=("following",),
        samples=800,
        epochs=2,
        config={"width": 64, "layers": 1},
        loss=(5.0, 3.0),
        accuracy=0.15,
        outputs={"probability": (256,)},
    ),
    "autoencoder": Example(
        data="pixels.npz",
        loss=(0.2, 0.05),
        outputs={"code": (8,), "reconstruction": (64,), "error": ()},
    ),
    "forecaster": Example(
        data="series.npz",
        epochs=2,
        config={"hidden": 32},
        loss=(0.4, 0.2),
        outputs={"forecast": (24,)},
    ),
    "two_files": Example(
        data="digits.npz",
        of="digits",
        epochs=6,
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


def run_script(path: Path, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path), *arguments],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", MODELS)
def test_an_example_learns_and_predicts(name: str, server: RunningServer, tmp_path: Path) -> None:
    example = MODELS[name]
    data = tmp_path / example.data
    said = run_script(EXAMPLES / (example.of or name) / "data.py", folder=tmp_path)
    assert example.data in said

    request = TrainRequest(
        run=name,
        task=put_source(server, EXAMPLES / name, config=example.config),
        data=data,
        targets=example.targets,
        samples=example.samples,
        epochs=example.epochs,
        batch_size=example.batch_size,
        validation=200,
        optimizer=OptimizerConfig(learning_rate=example.rate),
    )
    with Client(server.address) as client:
        *_events, last = client.train(request, TrainOptions(workdir=tmp_path))
        inputs = {key: array[:5] for key, array in np.load(data).items()}
        found = client.predict(name, inputs)

    assert isinstance(last, Done)
    summary = last.summary
    assert summary.loss_first is not None
    assert summary.validation_loss is not None
    assert summary.loss_first >= example.loss[0]
    assert summary.validation_loss <= example.loss[1]
    if example.accuracy is not None:
        assert (summary.metrics["accuracy"] or 0) >= example.accuracy
    assert {key: array.shape[1:] for key, array in found.outputs.items()} == example.outputs
    assert len(found) == 5
    if name == "language_model":
        script = EXAMPLES / name / "sample.py"
        text = run_script(script, server.address, name, "The run", "12", folder=tmp_path)
        assert text.startswith("The run")
        assert len(text.rstrip("\n").encode()) >= 12
