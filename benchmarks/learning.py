"""Does the default model learn in eight steps, on every seed, and how fast is a step?

    python -m benchmarks.learning [--seeds N] [--quick] [--json FILE]

Learning: 500 samples with 10 % anomalies, batches of 64, one epoch; then the scores of 1,000
held-out samples of another seed, for each kind of data and each seed. Variants were chosen on
seeds 0 to 19; these bars are held on seeds from 1000, which chose nothing.

Speed: a training step at batch 64 on the CPU, against the dimensions of the earlier system
(73.8 million parameters), the two in turn, so that whatever else the machine does meets both.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.bars import Bar, finish, show
from benchmarks.processes import set_up_torch

set_up_torch()

import torch  # noqa: E402 - after its threads are set up
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from benchmarks.bare_loop import BareLoop, Batch, batches  # noqa: E402
from omega21.data.order import presentation_order  # noqa: E402
from omega21.data.scores import auroc, average_precision  # noqa: E402
from omega21.data.sources.generators import KINDS, generate  # noqa: E402
from omega21.models.corteza.config import ModelConfig  # noqa: E402
from omega21.models.corteza.network import GatedUnit  # noqa: E402
from omega21.models.corteza.task import CortezaTask  # noqa: E402
from omega21.protocol.optimizers import OptimizerConfig  # noqa: E402
from omega21.protocol.plan import Kind  # noqa: E402

FIRST_SEED = 1000
TRAINED, HELD_OUT, BATCH_SIZE, ANOMALY_PERCENT = 500, 1000, 64, 10.0
WORST_AUROC, WORST_PRECISION = 0.998, 0.98
MEDIAN_AUROC, MEDIAN_PRECISION = 0.9995, 0.995
SPEED_RATIO = 2.5


class Trial(NamedTuple):
    """Scores on held-out samples after training on one kind and seed."""

    kind: Kind
    seed: int
    auroc: float
    average_precision: float


def learn(kind: Kind, seed: int) -> Trial:
    """Train the default model once, as `omega21 train` with its defaults does, and score it."""
    order = presentation_order(seed, offset=0, samples=TRAINED)
    samples = generate(kind, seed, order, anomaly_percent=ANOMALY_PERCENT, features=1600)
    task = CortezaTask(ModelConfig(), seed=seed)
    model = task.module
    loop = BareLoop(task, OptimizerConfig(), run_seed=seed)
    loop.train(list(batches(samples, batch_size=BATCH_SIZE)))
    held_out = generate(
        kind, seed + 2**32, range(HELD_OUT), anomaly_percent=ANOMALY_PERCENT, features=1600
    )
    model.eval()
    with torch.no_grad():
        outputs = [model(x_BF) for x_BF in torch.from_numpy(held_out.x).split(250)]
    scores = torch.cat([task.scores(part) for part in outputs]).numpy()
    return Trial(kind, seed, auroc(scores, held_out.y), average_precision(scores, held_out.y))


def learning_bars(trials: Sequence[Trial]) -> list[Bar]:
    """Hold the trials of one kind against their bars."""
    kind = trials[0].kind
    areas = [trial.auroc for trial in trials]
    precisions = [trial.average_precision for trial in trials]
    return [
        Bar(f"{kind}: AUROC, worst seed", min(areas), WORST_AUROC),
        Bar(f"{kind}: AUROC, median", statistics.median(areas), MEDIAN_AUROC),
        Bar(f"{kind}: average precision, worst seed", min(precisions), WORST_PRECISION),
        Bar(f"{kind}: average precision, median", statistics.median(precisions), MEDIAN_PRECISION),
    ]


class EarlierDimensions(nn.Module):
    """The dimensions of the earlier system: every layer wide, over a sequence of one token."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1600, 512, 2, batch_first=True, bidirectional=True)
        block = nn.TransformerEncoderLayer(1600, 8, 2048, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, 2)
        self.join = GatedUnit(1024, 1600, 1600)
        self.mlp = nn.Sequential(
            *(nn.Linear(1600, 4096), nn.ReLU(), nn.Linear(4096, 2048), nn.ReLU()),
            *(nn.Linear(2048, 512), nn.ReLU()),
        )
        self.attention = nn.MultiheadAttention(512, 8, batch_first=True)
        self.anomaly = nn.Linear(512, 1)

    def forward(self, x_BF: Tensor) -> Tensor:
        """Compute the anomaly logits [B] of samples [B, F]."""
        x_B1F = x_BF.unsqueeze(1)
        joined_B1F = self.join(self.lstm(x_B1F)[0], self.encoder(x_B1F))
        x_B1M = self.mlp(joined_B1F)
        attended_B1M, _ = self.attention(x_B1M, x_B1M, x_B1M)
        logit_B: Tensor = self.anomaly(attended_B1M).flatten()
        return logit_B


def earlier_step(batch: Batch) -> Callable[[], object]:
    """Make a function that trains the earlier dimensions by one step of (fused) Adam."""
    model = EarlierDimensions().train()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(batch.x), batch.y).backward()
        optimizer.step()

    return step


def measure_speed(rounds: int) -> dict[str, list[float]]:
    """Time steps of both networks in turn: samples per second of each step, in order."""
    samples = generate(
        "neuronal", FIRST_SEED, range(BATCH_SIZE), anomaly_percent=ANOMALY_PERCENT, features=1600
    )
    batch = Batch(torch.from_numpy(samples.x), torch.from_numpy(samples.y))
    loop = BareLoop(CortezaTask(ModelConfig(), seed=0), OptimizerConfig(), run_seed=0)
    steps = {"default": lambda: loop.train([batch]), "earlier": earlier_step(batch)}
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            step()  # the first step after the other network's finds its weights out of the cache
            started = time.perf_counter()
            step()
            if turn:  # the first turn allocates
                speeds[name].append(BATCH_SIZE / (time.perf_counter() - started))
    return speeds


def run(*, seeds: int, rounds: int) -> tuple[list[Bar], dict[str, Any]]:
    """Measure everything and print it as it comes; the bars, and the figures behind them."""
    bars: list[Bar] = []
    trials: list[Trial] = []
    for kind in KINDS:
        of_kind = [learn(kind, seed) for seed in range(FIRST_SEED, FIRST_SEED + seeds)]
        trials += of_kind
        bars += learning_bars(of_kind)
        show(bars[-4:])
    speeds = measure_speed(rounds)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratio = medians["default"] / medians["earlier"]
    bars.append(Bar("training speed, times the earlier dimensions'", ratio, SPEED_RATIO))
    show(bars[-1:])
    for name, values in speeds.items():
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"  {name}: median {medians[name]:.0f} samples per second, {spread}")
    return bars, {"trials": [trial._asdict() for trial in trials], "samples_per_second": speeds}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="seeds for each kind (20)")
    parser.add_argument("--quick", action="store_true", help="3 seeds and fewer timed steps")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    seeds = min(options.seeds, 3) if options.quick else options.seeds
    bars, figures = run(seeds=seeds, rounds=5 if options.quick else 15)
    return finish(bars, figures, path=options.json)


if __name__ == "__main__":
    sys.exit(main())
