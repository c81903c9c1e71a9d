"""What checkpoints cost the training.

    python -m benchmarks.checkpointing [--steps N] [--json FILE]

The default model on the CPU, its shards on disk, batches of 64, in an engine without checkpoints
and in one with a checkpoint every two seconds, in turn. What one checkpoint costs is the
difference, by their number; at the default cadence of one in 30 s that is the share of the time
that training stalls.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bars import finish, median_bar, show
from benchmarks.processes import set_up_torch

set_up_torch()

from omega21.data.sources.generators import generate  # noqa: E402 - after torch's threads are set up
from omega21.engine.engine import Engine  # noqa: E402
from omega21.engine.options import EngineOptions  # noqa: E402
from omega21.models.registry import default_config  # noqa: E402
from omega21.protocol.digests import tensors_sha256  # noqa: E402
from omega21.protocol.plan import Segment, ShardRef, Source  # noqa: E402
from omega21.protocol.shards import encode_shard, samples_per_shard  # noqa: E402

SHARD_SAMPLES = samples_per_shard(default_config().sample_schema)
BATCH_SIZE = 64
SAMPLES = 1024
ROUNDS = 3
MOST_STALL_PERCENT = 5.0
_OFTEN, _NEVER = 2.0, 1e9


def engine_seconds(steps: int, *, checkpoint_seconds: float) -> tuple[float, int]:
    """Train the same steps in an engine; seconds, and checkpoints taken meanwhile."""
    options = EngineOptions(checkpoint_seconds=checkpoint_seconds, checkpoint_steps=2**31)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder), options)
        engine.start()
        try:
            return _train(engine, steps)
        finally:
            engine.stop(60)
            engine.close()


def _train(engine: Engine, steps: int) -> tuple[float, int]:
    run_id = uuid.uuid4().hex
    engine.runs.create("bench", run_id, default_config())
    samples = generate("simple", 0, range(SAMPLES), anomaly_percent=10, features=1600)
    refs = []
    for start in range(0, SAMPLES, SHARD_SAMPLES):
        rows = slice(start, start + SHARD_SAMPLES)
        tensors = {"x": samples.x[rows], "y": samples.y[rows]}
        refs.append(ShardRef(sha256=tensors_sha256(tensors), samples=len(tensors["y"])))
        engine.shards.put(refs[-1].sha256, encode_shard(tensors), compressed=True)
    segment = Segment(
        samples=SAMPLES,
        batch_size=BATCH_SIZE,
        epochs=-(-(steps + 2) * BATCH_SIZE // SAMPLES),
        source=Source(kind="simple"),
        shards=tuple(refs),
    )
    engine.plans.put_segment("bench", 0, run_id=run_id, segment=segment)
    _advance(engine, run_id, 2)
    saved: set[int] = set()
    unsubscribe = engine.registry.subscribe(
        lambda *_: saved.add(engine.runs.summary("bench").durable_step)
    )
    started = time.perf_counter()
    _advance(engine, run_id, 2 + steps)
    seconds = time.perf_counter() - started
    unsubscribe()
    return seconds, len(saved - {0})


def _advance(engine: Engine, run_id: str, to: int) -> None:
    reached = threading.Event()

    def look(_run: str, _step: int | None = None) -> None:
        if engine.runs.summary("bench").step >= to:
            reached.set()

    unsubscribe = engine.registry.subscribe(look)
    engine.plans.advance("bench", run_id, to)
    reached.wait()
    unsubscribe()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpointing", description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="steps of each measurement (60)")
    parser.add_argument("--quick", action="store_true", help="20 steps")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    steps = 20 if options.quick else options.steps
    plain, saving, costs = [], [], []
    for _ in range(ROUNDS):
        plain.append(engine_seconds(steps, checkpoint_seconds=_NEVER)[0])
        seconds, count = engine_seconds(steps, checkpoint_seconds=_OFTEN)
        saving.append(seconds)
        costs.append((seconds - plain[-1]) / max(1, count))
    cadence = EngineOptions().checkpoint_seconds
    stalls = [100 * cost / cadence for cost in costs]
    bars = [median_bar("checkpoints, percent of the time", stalls, MOST_STALL_PERCENT, most=True)]
    show(bars)
    print(f"  one checkpoint costs {statistics.median(costs):.2f} s")
    figures = {
        "seconds": {"without": plain, "with": saving},
        "seconds_per_checkpoint": costs,
    }
    return finish(bars, figures, path=options.json)


if __name__ == "__main__":
    sys.exit(main())
