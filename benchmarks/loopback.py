"""Training on a server over loopback against the bare loop, in turn.

    python -m benchmarks.loopback [--quick] [--json FILE]

Slices of steps that a server trains, from the request that raises the target to the last result
here, take turns with slices of the same steps in the bare loop: what else the machine does meets
both. The samples are on the server's disk; the first epoch and later ones are told apart. Then a
client trains as a user's does, which also makes, encodes and uploads the samples while the server
trains on the same cores; there CPU time says what that took.
"""

import argparse
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, finish, median_bar, show
from benchmarks.processes import Served, server, set_up_torch

set_up_torch()

from benchmarks.bare_loop import BareLoop, batches, in_a_thread  # noqa: E402 - after the threads are set up
from benchmarks.client_process import train  # noqa: E402
from omega21 import Client  # noqa: E402
from omega21.data.sources.generators import generate  # noqa: E402
from omega21.models.corteza.config import TINY, ModelConfig, run_config, task  # noqa: E402
from omega21.models.corteza.task import CortezaTask  # noqa: E402
from omega21.models.registry import default_config  # noqa: E402
from omega21.protocol.digests import tensors_sha256  # noqa: E402
from omega21.protocol.optimizers import OptimizerConfig  # noqa: E402
from omega21.protocol.plan import Segment, ShardRef, Source  # noqa: E402
from omega21.protocol.runs import RunConfig  # noqa: E402
from omega21.protocol.shards import encode_shard, samples_per_shard  # noqa: E402

SHARD_SAMPLES = samples_per_shard(default_config().sample_schema)
LEAST_SHARE = 0.97
LEAST_SHARE_DEFAULT = 0.99
TINY_BATCH = 128
"""With it the tiny model takes about 10 ms a step on two cores."""
TINY_FEW = 32_768
"""So many samples are held in memory in later epochs; a run of `rounds` slices has more."""


class ServedRun:
    """A run of generated samples on a server, advanced slice by slice."""

    def __init__(
        self, client: Client, config: RunConfig, *, samples: int, batch_size: int, epochs: int
    ) -> None:
        self._client = client
        self.name = f"bench-{uuid.uuid4().hex[:8]}"
        self._id = client.api.runs.create(self.name, config=config).id
        self.step = 0
        data = generate("simple", 0, range(samples), anomaly_percent=10, features=1600)
        refs = []
        for start in range(0, samples, SHARD_SAMPLES):
            rows = slice(start, start + SHARD_SAMPLES)
            tensors = {"x": data.x[rows], "y": data.y[rows]}
            refs.append(ShardRef(sha256=tensors_sha256(tensors), samples=len(tensors["y"])))
            client.api.shards.put(refs[-1].sha256, encode_shard(tensors))
        source = Source(kind="simple", anomaly_percent=10)
        segment = Segment(
            samples=samples, batch_size=batch_size, epochs=epochs, source=source, shards=tuple(refs)
        )
        client.api.plans.put_segment(self.name, 0, run_id=self._id, segment=segment)

    def train(self, steps: int) -> float:
        """Train the next steps; seconds from the request to the last result."""
        to = self.step + steps
        started = time.perf_counter()
        self._client.api.runs.advance(self.name, run_id=self._id, to=to)
        while self.step < to:
            reply = self._client.api.steps.read(self.name, after=self.step, wait=25, gather=25)
            self.step += len(reply.steps)
        return time.perf_counter() - started


class BareRun:
    """The same steps in the bare loop, on batches that are ready."""

    def __init__(self, model: ModelConfig, *, samples: int, batch_size: int) -> None:
        data = generate("simple", 0, range(samples), anomaly_percent=10, features=1600)
        self._ready = in_a_thread(lambda: list(batches(data, batch_size=batch_size)))
        self._loop = in_a_thread(
            lambda: BareLoop(CortezaTask(model, seed=0), OptimizerConfig(), run_seed=0)
        )

    def train(self, steps: int) -> float:
        """Train so many steps; seconds."""
        return in_a_thread(lambda: self._train(steps))

    def _train(self, steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            self._loop.train([self._ready[self._loop.step % len(self._ready)]])
        return time.perf_counter() - started


@contextmanager
def served_client() -> Iterator[tuple[Served, Client]]:
    """Run a server and a client of it."""
    with server("--checkpoint-seconds", "1e9") as served, Client(served.address) as client:
        yield served, client


def shares(
    first: Callable[[int], float], second: Callable[[int], float], *, steps: int, rounds: int
) -> list[float]:
    """Run both in turn; the time of the first over that of the second, in each round."""
    found = []
    for turn in range(rounds):
        order = (first, second) if turn % 2 == 0 else (second, first)
        seconds = {run: run(steps) for run in order}
        found.append(seconds[first] / seconds[second])
    return found


def ready_samples(client: Client, *, quick: bool) -> list[Bar]:
    """Compare slices whose samples are on the server."""
    rounds, bars = (3, []) if quick else (9, [])
    samples, steps = 4096, 8 if quick else 30
    run = ServedRun(client, run_config(seed=0), samples=samples, batch_size=64, epochs=12)
    bare = BareRun(ModelConfig(), samples=samples, batch_size=64)
    run.train(3), bare.train(3)
    found = shares(bare.train, run.train, steps=steps, rounds=rounds)
    bars.append(
        median_bar("default model: share of the bare loop's speed", found, LEAST_SHARE_DEFAULT)
    )
    show(bars[-1:])
    steps = 60 if quick else 150
    for samples, epochs in ((TINY_BATCH * (steps * rounds + 3), 2), (TINY_FEW, 40)):
        config = run_config(model=TINY, seed=0)
        run = ServedRun(client, config, samples=samples, batch_size=TINY_BATCH, epochs=epochs)
        bare = BareRun(TINY, samples=samples, batch_size=TINY_BATCH)
        run.train(3), bare.train(3)
        if samples > TINY_FEW:
            found = shares(bare.train, run.train, steps=steps, rounds=rounds)
            name = "tiny model, first epoch, shards ready"
            bars.append(median_bar(name, found, LEAST_SHARE))
            show(bars[-1:])
        else:
            run.train(samples // TINY_BATCH)
        found = shares(bare.train, run.train, steps=steps, rounds=rounds)
        name = f"tiny model, later epochs of {samples:,} samples"
        bars.append(median_bar(name, found, LEAST_SHARE))
        show(bars[-1:])
    return bars


def whole_trainings(served: Served, *, quick: bool) -> tuple[list[Bar], dict[str, Any]]:
    """Compare a client's whole training, from its first request, with the bare loop."""
    bars, figures = [], {}
    for name, model, batch, samples, epochs in (
        ("default", ModelConfig(), 64, 1024 if quick else 4096, 2),
        ("tiny", TINY, TINY_BATCH, 8192 if quick else 32_768, 2),
    ):
        bare = BareRun(model, samples=samples, batch_size=batch)
        bare.train(3)
        steps = -(-samples // batch)
        firsts, later, costs = [], [], []
        for turn in range(1 if quick else 3):
            before = bare.train(steps)
            cpu = served.cpu_seconds()
            order = {"run": f"whole-{name}-{turn}", "samples": samples, "batch_size": batch}
            order |= {"epochs": epochs, "validation": 0, "seed": turn}
            seen = train(served.address, order | {"task": task(model).model_dump(mode="json")})
            bare_seconds = (before + bare.train(steps)) / 2
            rest = seen.seconds(steps, epochs * steps)
            firsts.append(bare_seconds / (seen.last_result - seen.ready - rest))
            later.append((epochs - 1) * bare_seconds / rest)
            costs.append({"client": seen.cpu_seconds, "server": served.cpu_seconds() - cpu})
        if name == "default":
            bars.append(
                median_bar("default model, a client's later epochs", later, LEAST_SHARE_DEFAULT)
            )
            show(bars[-1:])
        figures[name] = {
            "first epoch, with generation and upload beside it": firsts,
            "second epoch": later,
            "cpu_seconds": costs,
        }
        print(
            f"  {name}: first epoch, with generation and upload on the same cores: "
            f"{min(firsts):.3f} to {max(firsts):.3f} of the bare loop's speed"
        )
    return bars, figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loopback", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    with served_client() as (served, client):
        bars = ready_samples(client, quick=given.quick)
        more, figures = whole_trainings(served, quick=given.quick)
    return finish([*bars, *more], figures, path=given.json)


if __name__ == "__main__":
    sys.exit(main())
