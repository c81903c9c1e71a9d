"""Who else is on the server, and what they cost the training: idle long polls, slow peers.

    python -m benchmarks.bystanders [--quick] [--json FILE]

Slices of steps with them and without them take turns. A watcher is a long poll for a result that
does not come. A slow peer announces a shard and then sends some bytes a second of it. All of them
have a core of their own and the server the others: what they take from it is what it does for them.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal

from benchmarks.bars import Bar, finish, median_bar, show
from benchmarks.loopback import ServedRun, shares
from benchmarks.processes import Served, far_server, on_cores, two_machines
from omega21 import Client
from omega21.models.corteza.config import TINY, run_config

WATCHERS, SLOW_PEERS = 64, 32
LEAST_SHARE = 0.97


async def _watch(port: int, run: str) -> None:
    """Poll for a result far ahead, again and again."""
    path = f"/runs/{run}/steps?after=1000000000&wait=25"
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request.encode())
            await reader.read()
        finally:
            writer.close()


async def _upload_slowly(port: int, _run: str) -> None:
    """Send a shard at 100 bytes a second, until the server has enough of it, and again."""
    head = (
        f"PUT /shards/{'0' * 64} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
        "Content-Type: application/vnd.safetensors\r\n\r\n"
    )
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(head.encode())
            with contextlib.suppress(OSError):  # the server has cut it off
                while True:
                    writer.write(b"\0" * 10)
                    await writer.drain()
                    await asyncio.sleep(0.1)
        finally:
            writer.close()


@contextmanager
def beside(
    what: Callable[[int, str], Coroutine[Any, Any, None]], count: int, *, port: int, run: str
) -> Iterator[None]:
    """Have `count` of them on the server."""
    with start_blocking_portal("asyncio") as portal:
        waiting = [portal.start_task_soon(what, port, run) for _ in range(count)]
        time.sleep(0.5)  # until all of them are there
        try:
            yield
        finally:
            for one in waiting:
                one.cancel()


def costs(served: Served, run: ServedRun, *, steps: int, rounds: int) -> list[Bar]:
    """Measure both kinds of bystander beside one run."""
    bars = []
    for name, what, count in (
        (f"{WATCHERS} idle long polls", _watch, WATCHERS),
        (f"{SLOW_PEERS} slow uploads", _upload_slowly, SLOW_PEERS),
    ):

        def crowded(number: int) -> float:
            with beside(what, count, port=served.port, run=run.name):  # noqa: B023
                return run.train(number)

        found = shares(run.train, crowded, steps=steps, rounds=rounds)
        bars.append(median_bar(f"{name}, share of the speed without", found, LEAST_SHARE))
        show(bars[-1:])
    return bars


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bystanders", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    rounds = 3 if given.quick else 7
    cores = two_machines()
    with (
        far_server(cores) as served,
        on_cores(cores.near),
        Client(served.address) as client,
    ):
        run = ServedRun(client, run_config(seed=0), samples=1024, batch_size=64, epochs=1000)
        run.train(3)
        bars = costs(served, run, steps=10 if given.quick else 40, rounds=rounds)
        tiny = ServedRun(
            client, run_config(model=TINY, seed=0), samples=1024, batch_size=64, epochs=10_000
        )
        tiny.train(3)
        with beside(_upload_slowly, SLOW_PEERS, port=served.port, run=tiny.name):
            waits = []
            for _ in range(50):
                started = time.perf_counter()
                client.api.legacy.health()
                waits.append(time.perf_counter() - started)
        print(f"  /health beside slow uploads: median {1000 * statistics.median(waits):.1f} ms")
    return finish(bars, {"health_seconds": waits}, path=given.json)


if __name__ == "__main__":
    sys.exit(main())
