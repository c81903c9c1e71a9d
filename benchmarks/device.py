"""What only a GPU can show: equal bits, kills, precision, memory, sharing, and the engine's share.

    python -m benchmarks.device [--quick] [--json FILE]

Every figure comes from real server processes on the device and a client on this machine; the bare
loop of the last part runs in this process, in turn with the server. Where torch finds no CUDA
device, it says so and ends with status 1: a figure of another device under this name would lie.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.bars import Bar, finish, median_bar, show
from benchmarks.processes import Served, server, set_up_torch

set_up_torch()

import torch  # noqa: E402 - after its threads are set up

from benchmarks.bare_loop import BareLoop, Batch, batches  # noqa: E402
from benchmarks.loopback import ServedRun, shares  # noqa: E402
from omega21 import Client  # noqa: E402
from omega21.client.events import Done, StepsDone  # noqa: E402
from omega21.client.request.request import TrainRequest  # noqa: E402
from omega21.client.store.summary import Summary  # noqa: E402
from omega21.client.training.options import TrainOptions  # noqa: E402
from omega21.data.sources.generators import KINDS, generate  # noqa: E402
from omega21.executors.platform import autocast_dtype  # noqa: E402
from omega21.models.corteza.config import ModelConfig, run_config  # noqa: E402
from omega21.models.corteza.task import CortezaTask  # noqa: E402
from omega21.protocol.optimizers import OptimizerConfig  # noqa: E402
from omega21.protocol.runs import Precision  # noqa: E402

PRECISIONS: Final[tuple[Precision, ...]] = ("float32", "bfloat16", "float16")
ORDER: Final = TrainRequest(run="", samples=2048, epochs=2, batch_size=32, validation=0)
"""128 steps of the default model, some seconds on any GPU."""
CASES: Final[tuple[tuple[Precision, int], ...]] = (
    ("float32", 64),
    ("bfloat16", 64),
    ("bfloat16", 512),
)
"""Precision and batch size of the comparisons with the bare loop."""
KILLS = 5
LEAST_SHARE = 0.97
LEAST_AUROC = 0.998


def train(
    served: Served,
    order: TrainRequest,
    workdir: Path,
    *,
    disturb: Callable[[int], None] = lambda _: None,
) -> Summary:
    """Train a run to its end with a client; `disturb` is called with each step that arrives."""
    with Client(served.address) as client:
        for event in client.train(order, TrainOptions(workdir=workdir, patience=300.0)):
            if isinstance(event, StepsDone):
                disturb(event.rows[-1].step)
            elif isinstance(event, Done):
                return event.summary
    raise RuntimeError(f"run {order.run} did not end")


def equal_bits(served: Served, workdir: Path) -> list[Bar]:
    """Train the same twice under two names in each precision, and once more on a second server."""
    bars = []
    for precision in PRECISIONS:
        order = replace(ORDER, precision=precision)
        weights = [
            train(served, replace(order, run=f"{precision}-{name}"), workdir).weights_sha256
            for name in ("a", "b")
        ]
        with server() as other, Client(other.address) as client:
            verified = client.verify(f"{precision}-a", workdir=workdir)
        bars += [
            Bar(
                f"{precision}: two runs of one order, equal weights",
                len(set(weights)),
                1,
                most=True,
            ),
            Bar(f"{precision}: steps that an empty server computes alike", verified.last, 128),
        ]
        show(bars[-2:])
    return bars


def kills(workdir: Path, calm: str) -> list[Bar]:
    """Kill the computing process again and again; the weights are those of the calm run."""
    due = [int(128 * (n + 1) / (KILLS + 2)) for n in range(KILLS)]
    with server("--checkpoint-steps", "8", "--checkpoint-seconds", "0.2") as served:

        def disturb(step: int) -> None:
            if due and step >= due[0]:
                due.pop(0)
                os.kill(served.worker(), signal.SIGKILL)

        order = replace(ORDER, run="killed", precision="float32")
        summary = train(served, order, workdir, disturb=disturb)
    done = KILLS - len(due)
    bars = [
        Bar("kill -9 of the computing process during a run", done, 1),
        Bar("weights that differ after them", float(summary.weights_sha256 != calm), 0, most=True),
    ]
    show(bars)
    return bars


def precision_learns(served: Served, workdir: Path) -> list[Bar]:
    """Learn each kind in each precision, as `omega21 train` does with its defaults."""
    bars = []
    for precision in PRECISIONS:
        areas = []
        for kind in KINDS:
            order = TrainRequest(run=f"learn-{precision}-{kind}", kind=kind, precision=precision)
            areas.append(train(served, order, workdir).metrics.get("auroc") or 0.0)
        bars.append(Bar(f"{precision}: AUROC, worst kind", min(areas), LEAST_AUROC, tuple(areas)))
        show(bars[-1:])
    return bars


def out_of_memory(served: Served, workdir: Path) -> list[Bar]:
    """Leave too little of the device's memory for a batch: it is computed in parts, and ends."""
    order = replace(ORDER, samples=32_768, batch_size=16_384, epochs=1, precision="float32")
    with Client(served.address) as client:
        client.diagnose()
        free, _ = torch.cuda.mem_get_info()
        ballast = torch.empty(max(0, free - 900 * 2**20), dtype=torch.uint8, device="cuda")
        summary = train(served, replace(order, run="full"), workdir)
        rows = client.api.steps.read("full").steps
        del ballast
        torch.cuda.empty_cache()
    bars = [
        Bar("memory full: steps done", summary.steps, 2),
        Bar("memory full: samples computed at a time", _part(rows), 16_383, most=True),
    ]
    show(bars)
    return bars


def _part(rows: Sequence[Any]) -> float:
    sizes = [row.micro_batch_size for row in rows if row.micro_batch_size is not None]
    return min(sizes, default=16_384)


def side_by_side(workdir: Path, calm: str) -> tuple[list[Bar], dict[str, Any]]:
    """Train on two servers on the one device at once: neither changes the other's bits."""
    with server() as one, server() as two, ThreadPoolExecutor(2) as pool:
        order = replace(ORDER, precision="float32")
        calls = [
            pool.submit(train, served, replace(order, run=f"beside-{n}"), workdir)
            for n, served in enumerate((one, two))
        ]
        summaries = [call.result() for call in calls]
    differing = sum(summary.weights_sha256 != calm for summary in summaries)
    bars = [Bar("two servers on the device: weights that differ", differing, 0, most=True)]
    show(bars)
    return bars, {"two servers, samples/s": [s.samples_per_second for s in summaries]}


class BareRun:
    """The bare loop on the device, over batches that lie ready in its memory."""

    def __init__(self, *, samples: int, batch_size: int, precision: Precision) -> None:
        data = generate("simple", 0, range(samples), anomaly_percent=10, features=1600)
        self._ready = [
            Batch(*(part.cuda() for part in batch))
            for batch in batches(data, batch_size=batch_size)
        ]
        task = CortezaTask(ModelConfig(), seed=0)
        task.module.cuda()
        self._loop = BareLoop(task, OptimizerConfig(), run_seed=0)
        self._dtype = autocast_dtype(precision)
        self._enabled = precision != "float32"

    def train(self, steps: int) -> float:
        """Train so many steps; seconds."""
        started = time.perf_counter()
        with torch.autocast("cuda", dtype=self._dtype, enabled=self._enabled):
            for _ in range(steps):
                self._loop.train([self._ready[self._loop.step % len(self._ready)]])
        torch.cuda.synchronize()
        return time.perf_counter() - started


def speed(served: Served, *, quick: bool) -> tuple[list[Bar], dict[str, Any]]:
    """Compare slices on the server with the bare loop on the device, first epoch and later ones."""
    bars: list[Bar] = []
    rates: dict[str, Any] = {}
    rounds, steps = (3, 100) if quick else (7, 300)
    with Client(served.address) as client:
        for precision, batch_size in CASES:
            samples = 256 * batch_size
            config = run_config(precision=precision, seed=0)
            run = ServedRun(
                client, config, samples=samples, batch_size=batch_size, epochs=rounds * steps // 128
            )
            bare = BareRun(samples=samples, batch_size=batch_size, precision=precision)
            run.train(256), bare.train(50)
            seconds: list[float] = []

            def timed(count: int, run: ServedRun = run, seconds: list[float] = seconds) -> float:
                seconds.append(run.train(count))
                return seconds[-1]

            name = f"{precision}, batches of {batch_size}"
            found = shares(bare.train, timed, steps=steps, rounds=rounds)
            bars.append(median_bar(f"{name}: share of the bare loop's speed", found, LEAST_SHARE))
            rates[f"{name}: samples/s"] = batch_size * steps / statistics.median(seconds)
            show(bars[-1:])
            print(f"  {rates[f'{name}: samples/s']:,.0f} samples/s")
    return bars, rates


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed or there is no device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("torch finds no CUDA device here: nothing was measured", file=sys.stderr)
        return 1
    name = torch.cuda.get_device_name()
    print(f"on {name}, torch {torch.__version__}", flush=True)
    figures: dict[str, Any] = {"device": name}
    with tempfile.TemporaryDirectory(prefix="omega21-device-") as folder, server() as served:
        workdir = Path(folder)
        bars, more = speed(served, quick=given.quick)
        figures |= more
        calm = train(served, replace(ORDER, run="calm", precision="float32"), workdir)
        bars += equal_bits(served, workdir)
        bars += kills(workdir, calm.weights_sha256)
        beside, more = side_by_side(workdir, calm.weights_sha256)
        bars += [*beside, *precision_learns(served, workdir), *out_of_memory(served, workdir)]
        figures |= more
    return finish(bars, figures, path=given.json)


if __name__ == "__main__":
    sys.exit(main())
