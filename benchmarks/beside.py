"""How fast the server answers while a model computes, and while its code holds the interpreter.

    python -m benchmarks.beside [--quick] [--json FILE]

The model is in the user's own source: a step of it takes two seconds, in torch's operators or in a
loop of Python. `/health` is asked for 100 times meanwhile, over an open connection.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.bars import Bar, finish, median_bar, show
from benchmarks.processes import server
from omega21 import Client
from omega21.client.events import StepsDone
from omega21.client.request.model import with_model
from omega21.client.request.request import TrainRequest
from omega21.client.training.options import TrainOptions

MOST_SECONDS = 0.020
ASKED = 100
MODELS = {
    "a step of 2 s": "torch.mm(self.square, self.square)",
    "a busy loop of 2 s": "sum(range(10_000))",
}
"""What a model does again and again for two seconds in a step."""
NET = """
import time
import torch
from torch import nn


class Net(nn.Linear):
    square = torch.ones(512, 512)

    def forward(self, x):
        ends = time.monotonic() + (2 if self.training else 0)
        while time.monotonic() < ends:
            {do}
        return super().forward(x)


def build(schema):
    return Net(4, 3)
"""


def answers(*, quick: bool) -> list[Bar]:
    """Time `/health` beside each model."""
    bars = []
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(4096, 4)).astype(np.float32), "y": rng.integers(0, 3, 4096)}
    with (
        tempfile.TemporaryDirectory(prefix="omega21-bench-") as made,
        server("--allow-code") as served,
        Client(served.address) as client,
    ):
        for number, (name, do) in enumerate(MODELS.items()):
            source = Path(made, f"net_{number}.py")
            source.write_text(NET.format(do=do), encoding="utf-8")
            order = TrainRequest(run=f"beside-{number}", data=data, batch_size=1, validation=0)
            order = with_model(order, f"{source}:build")
            waits = _waits(client, order, asked=20 if quick else ASKED, workdir=Path(made))
            bars.append(
                median_bar(f"/health beside {name}, seconds", waits, MOST_SECONDS, most=True)
            )
            show(bars[-1:])
    return bars


def _waits(client: Client, order: TrainRequest, *, asked: int, workdir: Path) -> list[float]:
    """Ask for `/health` while the run computes; seconds each."""
    waits = []
    with closing(client.train(order, TrainOptions(workdir=workdir))) as events:
        for event in events:
            if isinstance(event, StepsDone):
                break
        for _ in range(asked):
            started = time.perf_counter()
            client.api.legacy.health()
            waits.append(time.perf_counter() - started)
            time.sleep(0.05)  # spread over several steps
        run = client.api.runs.state(order.run)
        assert run.state == "training", run.state
    client.api.runs.remove(order.run, run_id=run.id)
    return waits


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    return finish(answers(quick=given.quick), {}, path=given.json)


if __name__ == "__main__":
    sys.exit(main())
