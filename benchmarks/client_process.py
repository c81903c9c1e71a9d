"""A client in a process of its own, which trains and says how that went.

    python -m benchmarks.client_process ADDRESS ORDER [--tunnel] [--workdir FOLDER]

ORDER is a TrainRequest as JSON. Prints one JSON document at the end. With --tunnel the address is
asked for under a name that is not this machine's, so that the client does as it does through a
tunnel: fewer, longer requests.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx

from benchmarks.processes import run_module
from omega21.client.client import AsyncClient
from omega21.client.events import Connected, Done, RunReady, StepsDone, UploadProgress
from omega21.client.request.request import TrainRequest
from omega21.client.training.options import TrainOptions
from omega21.protocol.tasks.task import BuiltInTask

ELSEWHERE = "http://server.test"


class Counted(httpx.AsyncBaseTransport):
    """Carries requests to `address`, whatever host they name, and counts them by what they ask."""

    def __init__(self, address: str) -> None:
        self._target = httpx.URL(address)
        self._inner = httpx.AsyncHTTPTransport()
        self.requests: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on."""
        self.requests[_kind(request)] += 1
        request.url = request.url.copy_with(
            scheme=self._target.scheme, host=self._target.host, port=self._target.port
        )
        request.headers["Host"] = self._target.netloc.decode()
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def _kind(request: httpx.Request) -> str:
    parts = request.url.path.strip("/").split("/")
    what = parts[2] if parts[0] == "runs" and len(parts) > 2 else parts[0]
    return f"{request.method} {what}"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a client process saw; times by the monotonic clock, which processes share."""

    started: float
    connected: float
    ready: float
    first_result: float
    last_result: float
    done: float
    ended_at: list[float]
    """Seconds since 1970 at the end of step 1, 2, …, by the server."""
    uploaded: float
    bytes_sent: int
    shard_bytes: int
    bytes_received: int
    late_bytes: int
    """Bytes both ways after the last upload."""
    late_steps: int
    requests: dict[str, int]
    memory_mb: list[list[float]]
    """[step, MB in memory when it was known here]."""
    peak_memory_mb: float
    cpu_seconds: float

    def seconds(self, first: int, last: int) -> float:
        """Seconds from the end of step `first` to that of step `last`."""
        return self.ended_at[last - 1] - self.ended_at[first - 1]


def train(
    address: str, order: Mapping[str, Any], *, tunnel: bool = False, workdir: Path | None = None
) -> Trained:
    """Train in a process of its own; `order` as JSON holds it."""
    arguments = [address, json.dumps(dict(order))]
    arguments += ["--tunnel"] * tunnel + (["--workdir", str(workdir)] if workdir else [])
    return Trained(**json.loads(run_module("benchmarks.client_process", *arguments)))


async def _train(address: str, order: TrainRequest, *, tunnel: bool, workdir: Path) -> Trained:
    carrier = Counted(address)
    started = time.monotonic()
    times: dict[str, float] = {}
    ended_at = array("d")  # 8 bytes a step: the client's memory is measured
    memory: list[list[float]] = []
    uploaded, late_from, late_step, shard_bytes = started, (0, 0), 0, 0
    async with AsyncClient(ELSEWHERE if tunnel else address, transport=carrier) as client:
        traffic = client.traffic
        async with client.train(order, TrainOptions(workdir=workdir, patience=120.0)) as events:
            async for event in events:
                now = time.monotonic()
                if isinstance(event, Connected):
                    times["connected"] = now
                elif isinstance(event, RunReady):
                    times["ready"] = now
                elif isinstance(event, UploadProgress):
                    if event.bytes_sent > shard_bytes:
                        shard_bytes, uploaded = event.bytes_sent, now
                        late_from = (traffic.bytes_sent, traffic.bytes_received)
                        late_step = len(ended_at)
                elif isinstance(event, StepsDone):
                    times.setdefault("first_result", now)
                    times["last_result"] = now
                    ended_at.extend(row.ended_at for row in event.rows)
                    memory.append([event.rows[-1].step, _memory_mb()])
                elif isinstance(event, Done):
                    times["done"] = now
    late = traffic.bytes_sent + traffic.bytes_received - sum(late_from)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Trained(
        started=started,
        **times,
        ended_at=ended_at.tolist(),
        uploaded=uploaded,
        bytes_sent=traffic.bytes_sent,
        shard_bytes=shard_bytes,
        bytes_received=traffic.bytes_received,
        late_bytes=late,
        late_steps=len(ended_at) - late_step,
        requests=dict(carrier.requests),
        memory_mb=memory[:: max(1, len(memory) // 200)],
        peak_memory_mb=usage.ru_maxrss / 1024,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
    )


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client_process")
    parser.add_argument("address")
    parser.add_argument("order")
    parser.add_argument("--tunnel", action="store_true")
    parser.add_argument("--workdir", type=Path)
    given = parser.parse_args(arguments)
    fields = json.loads(given.order)
    if "task" in fields:
        fields["task"] = BuiltInTask.model_validate(fields["task"])
    order = TrainRequest(**fields)
    with tempfile.TemporaryDirectory(prefix="omega21-bench-") as made:
        workdir = given.workdir or Path(made)

        async def run() -> Trained:
            return await _train(given.address, order, tunnel=given.tunnel, workdir=workdir)

        print(json.dumps(anyio.run(run).__dict__))
    return 0


if __name__ == "__main__":
    sys.exit(main())
