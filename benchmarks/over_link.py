"""Training through a slow, far and uneven link, against what the link and the model allow.

    python -m benchmarks.over_link [--quick] [--json FILE]

20 Mbit/s up, a round trip of 150 ms, stalls (see `link`). The limit of a first epoch is the longer
of two things: its bytes at the rate that the link carries, and its steps in the bare loop; what is
on top of it is what the bar bounds. `simple` is bound by the link, `neuronal` by the computing. A
link has two ends: the client and the link have a core of their own, the server and the bare loop
the others, since what they take from each other here they do not on two machines.
The protocol of one JSON request a batch (`/train_layer2`) is measured over some batches, since
each costs the same, and counted up. The client is told nothing of all this; it does as it does
through a tunnel.
"""

import argparse
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, finish, median_bar, show
from benchmarks.processes import (
    Served,
    TwoMachines,
    far_server,
    on_cores,
    set_up_torch,
    two_machines,
)

set_up_torch()

import httpx  # noqa: E402 - after the threads are set up
import torch  # noqa: E402

from benchmarks.client_process import Trained, train  # noqa: E402
from benchmarks.link import Shape, shaped_link  # noqa: E402
from benchmarks.loopback import LEAST_SHARE, BareRun  # noqa: E402
from benchmarks.wire import json_batch  # noqa: E402
from omega21 import Client  # noqa: E402
from omega21.data.order import steps_per_epoch  # noqa: E402
from omega21.models.corteza.config import TINY, ModelConfig, run_config, task  # noqa: E402

MOST_OVER_LIMIT = 1.10
MOST_BYTES_A_STEP = 200
MOST_REQUESTS = 1.0
TIMES_JSON_ONE, TIMES_JSON_FIVE = 5.0, 20.0
BATCH_SIZE = 64
GATHERED_SECONDS = 5.0
STARTING_REQUESTS = 14
"""To connect, meet, make and plan the run, raise its target, see it begin, and read its end."""


@dataclass(frozen=True)
class Far:
    """A server at the other end of a link."""

    served: Served
    shape: Shape
    cores: TwoMachines

    @contextmanager
    def link(self) -> Iterator[int]:
        """Run the link; the port at its near end."""
        with on_cores(self.cores.near), shaped_link(self.served.port, self.shape) as port:
            yield port

    def train(self, order: dict[str, Any]) -> Trained:
        """Have a client train over the link."""
        with self.link() as port:
            return train(f"http://127.0.0.1:{port}", order, tunnel=True)


def first_epochs(far: Far, *, quick: bool) -> tuple[list[Bar], dict[str, Any]]:
    """Train the default model for some epochs over the link."""
    epochs = 2
    with on_cores(far.cores.far):
        bare = BareRun(ModelConfig(), samples=1024, batch_size=BATCH_SIZE)

    def bare_seconds(steps: int) -> float:
        with on_cores(far.cores.far):
            return bare.train(steps)

    bare_seconds(3)
    bars: list[Bar] = []
    figures: dict[str, Any] = {}
    for kind, count in (("simple", 10_240), ("neuronal", 16_384)):
        samples = count // 8 if quick else count
        steps = steps_per_epoch(samples, BATCH_SIZE)
        over, later, seen_all = [], [], []
        for turn in range(1 if quick else 3):
            before = bare_seconds(steps // 2)
            order = {"run": f"{kind}-{turn}", "kind": kind, "samples": samples, "epochs": epochs}
            seen = far.train(order | {"validation": 0, "seed": 100 + turn})
            compute = before + bare_seconds(steps - steps // 2)
            limit = max(seen.shard_bytes / far.shape.carried_rate, compute)
            rest = seen.seconds(steps, epochs * steps)
            over.append((seen.last_result - seen.started - rest) / limit)
            later.append((epochs - 1) * compute / rest)
            seen_all.append(asdict(seen) | {"ended_at": None, "limit": limit, "compute": compute})
        bound = "the link" if kind == "simple" else "computing"
        bars += [
            median_bar(
                f"first epoch over its limit, bound by {bound}", over, MOST_OVER_LIMIT, most=True
            ),
            median_bar(
                f"later epochs of {kind}, share of the bare loop's speed", later, LEAST_SHARE
            ),
        ]
        show(bars[-2:])
        figures[kind] = seen_all
    return bars, figures


def counted(far: Far, *, quick: bool) -> tuple[list[Bar], dict[str, Any]]:
    """Count requests, and bytes of steps whose samples are there, over some time of training."""
    samples, epochs = 2048, 20 if quick else 150
    order = {"run": "counted", "kind": "neuronal", "samples": samples, "epochs": epochs}
    seen = far.train(order | {"validation": 0, "task": task(TINY).model_dump(mode="json")})
    shards = seen.requests["PUT shards"]
    allowed = shards + (seen.last_result - seen.ready) / GATHERED_SECONDS + STARTING_REQUESTS
    asked = sum(seen.requests.values())
    bars = [
        Bar("requests, of those allowed", asked / allowed, MOST_REQUESTS, most=True),
        Bar(
            "bytes a step once the samples are there",
            seen.late_bytes / seen.late_steps,
            MOST_BYTES_A_STEP,
            most=True,
        ),
    ]
    show(bars)
    print(f"  {asked} requests in {seen.last_result - seen.ready:.0f} s: {seen.requests}")
    return bars, {"requests": seen.requests, "allowed": allowed}


def against_json(far: Far, *, quick: bool) -> tuple[list[Bar], dict[str, Any]]:
    """Compare with one JSON request a batch: the tiny model, the same samples."""
    samples, counted_batches = (2048, 4) if quick else (10_240, 12)
    batches = samples // BATCH_SIZE
    bars: list[Bar] = []
    figures: dict[str, Any] = {}
    each = _json_batches(far, counted_batches)
    median = statistics.median(each)
    for epochs, least in ((1, TIMES_JSON_ONE), (5, TIMES_JSON_FIVE)):
        order = {"run": f"json-{epochs}", "samples": samples, "epochs": epochs, "seed": epochs}
        seen = far.train(order | {"validation": 0, "task": task(TINY).model_dump(mode="json")})
        ours = seen.last_result - seen.started
        theirs = epochs * batches * median
        plural = "epoch" if epochs == 1 else "epochs"
        bars.append(Bar(f"times as fast as JSON batches, {epochs} {plural}", theirs / ours, least))
        figures[f"{epochs} {plural}"] = {"seconds": ours, "json_seconds": theirs}
    show(bars)
    return bars, figures | {"json_seconds_a_batch": each}


def _json_batches(far: Far, count: int) -> list[float]:
    """Train batches one after another by JSON requests over the link; seconds of each."""
    run = f"json-{uuid.uuid4().hex[:8]}"
    with Client(far.served.address) as client:
        client.api.runs.create(run, config=run_config(model=TINY))
    seconds = []
    with (
        far.link() as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as http,
    ):
        http.get("/health").raise_for_status()  # the connection is there
        for batch in range(count):
            body = json_batch("simple", batch)
            started = time.perf_counter()
            http.post(
                "/train_layer2",
                params={"run": run},
                content=body,
                headers={"Content-Type": "application/json"},
            ).raise_for_status()
            seconds.append(time.perf_counter() - started)
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.over_link", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples and rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    shape, cores = Shape(), two_machines()
    threads = len(cores.far)
    torch.set_num_threads(threads)
    bars: list[Bar] = []
    figures: dict[str, Any] = {"link": asdict(shape), "server_cores": threads}
    with far_server(cores) as served:
        far = Far(served, shape, cores)
        for part in (against_json, counted, first_epochs):
            more, found = part(far, quick=given.quick)
            bars += more
            figures[part.__name__] = found
    return finish(bars, figures, path=given.json)


if __name__ == "__main__":
    sys.exit(main())
