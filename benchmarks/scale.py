"""What a step costs late in a long run, and what a million samples cost in memory.

    python -m benchmarks.scale [--quick] [--json FILE]

A long run: 100,000 steps of a model that takes about a millisecond; the steps after the 1,000th
and before the 100,000th are compared with each other by CPU time of the server, which other
programs change little, and its memory and the client's at both. Many samples: a client streams
them to a server that trains the tiny model on them in large batches.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, finish, show
from benchmarks.client_process import Trained, train
from benchmarks.processes import Served, server
from omega21.models.corteza.config import TINY, task

MOST_GROWTH = 1.10
MOST_CLIENT_MB = 300.0
MOST_SERVER_MB_BESIDE_MODEL = 500.0
EARLY = 1000
WINDOW = 2000
SMALL = TINY.model_copy(update={"token_features": 1600, "lstm_width": 1})
"""One token: no recurrence to speak of."""


class Watched:
    """A server's step, CPU time and memory, as they were seen while it trained."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.seen: list[tuple[float, float, float]] = []
        """(seconds since 1970, CPU seconds, MB in memory)."""
        self._over = threading.Event()

    def look(self) -> None:
        """Look four times a second."""
        while not self._over.wait(0.25):
            self.seen.append((time.time(), self._served.cpu_seconds(), self._served.memory_mb()))

    def at(self, when: float) -> tuple[float, float, float]:
        """Return what was seen nearest to a time."""
        return min(self.seen, key=lambda seen: abs(seen[0] - when))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look while the block runs."""
        thread = threading.Thread(target=self.look)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def long_run(steps: int) -> tuple[list[Bar], dict[str, Any]]:
    """Train so many steps, and compare late ones with early ones."""
    samples = 1024
    with server("--checkpoint-seconds", "1e9") as served:
        watched = Watched(served)
        with watched.watching():
            order = {"run": "long", "samples": samples, "batch_size": 1, "validation": 0}
            order |= {"epochs": -(-steps // samples), "task": task(SMALL).model_dump(mode="json")}
            seen = train(served.address, order)
    last = len(seen.ended_at)
    early = _window(watched, seen, first=EARLY)
    late = _window(watched, seen, first=last - WINDOW)
    client = [_client_memory(seen, step) for step in (EARLY + WINDOW, last)]
    number = f"step {last} over step {EARLY}"
    bars = [
        Bar(f"{number}: time", late["seconds"] / early["seconds"], MOST_GROWTH, most=True),
        Bar(f"{number}: server's CPU time", late["cpu"] / early["cpu"], MOST_GROWTH, most=True),
        Bar(f"{number}: server's memory", late["mb"] / early["mb"], MOST_GROWTH, most=True),
        Bar(f"{number}: client's memory", client[1] / client[0], MOST_GROWTH, most=True),
    ]
    show(bars)
    return bars, {"early": early, "late": late, "client_mb": client}


def _window(watched: Watched, seen: Trained, *, first: int) -> dict[str, float]:
    last = first + WINDOW
    start, end = (watched.at(seen.ended_at[step - 1]) for step in (first, last))
    seconds = seen.seconds(first, last)
    return {
        "seconds": seconds / WINDOW,
        # What was seen falls between steps: per second seen, then per step.
        "cpu": (end[1] - start[1]) / (end[0] - start[0]) * seconds / WINDOW,
        "mb": end[2],
    }


def _client_memory(seen: Trained, step: int) -> float:
    return min(seen.memory_mb, key=lambda at: abs(at[0] - step))[1]


def many_samples(samples: int) -> tuple[list[Bar], dict[str, Any]]:
    """Stream so many samples to a server."""
    with server() as served:
        before = served.memory_mb()
        watched = Watched(served)
        with watched.watching():
            order = {"run": "many", "kind": "neuronal", "samples": samples, "batch_size": 1024}
            seen = train(
                served.address,
                order | {"validation": 0, "task": task(TINY).model_dump(mode="json")},
            )
    peak = max(memory for _, _, memory in watched.seen)
    bars = [
        Bar(f"{samples:,} samples: client's memory, MB", seen.peak_memory_mb, MOST_CLIENT_MB,
            most=True),
        # An idle server has torch loaded and no run in memory; the tiny model is 0.2 MB.
        Bar(f"{samples:,} samples: server's memory beside itself, MB", peak - before,
            MOST_SERVER_MB_BESIDE_MODEL, most=True),
    ]  # fmt: skip
    show(bars)
    seconds = seen.last_result - seen.started
    print(f"  {samples / seconds:.0f} samples per second; the server at the start: {before:.0f} MB")
    return bars, {"seconds": seconds, "idle_mb": before, "peak_mb": peak}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps and samples")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    part = 20 if given.quick else 1
    bars, steps = long_run(100_000 // part)
    more, samples = many_samples(1_000_000 // part)
    return finish([*bars, *more], {"long_run": steps, "many_samples": samples}, path=given.json)


if __name__ == "__main__":
    sys.exit(main())
