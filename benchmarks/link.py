"""A slow, far and uneven link on loopback: a proxy for TCP in a process of its own.

    python -m benchmarks.link --to PORT [--delay S] [--rate BYTES/S] [--stall S] [--every S]

Bytes to the server leave at `rate` (shared by all connections) and arrive half of `delay` later;
bytes from it take the other half. Every `every` seconds the link stands still for `stall` seconds.
It prints the port that it listens on, and ends with its standard input.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

ROUND_TRIP = 0.150
UP_RATE = 20e6 / 8
CHUNK = 16 * 1024
"""Bytes that leave at a time: 7 ms at 20 Mbit/s."""
LATE = 0.01
"""Seconds that this process may be late for bytes that waited for the wire, without its idling."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a link is like: seconds and bytes a second."""

    round_trip: float = ROUND_TRIP
    up_rate: float = UP_RATE
    stall: float = 0.2
    stall_every: float = 10.0

    @property
    def carried_rate(self) -> float:
        """Bytes a second over a long time, stalls counted."""
        return self.up_rate * (1 - self.stall / self.stall_every)


class _Chunk(NamedTuple):
    arrives: float
    data: bytes


class _Uplink:
    """One wire for every connection: a byte leaves when those before it have left."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._start = time.monotonic()
        self._free = self._start

    def departure(self, size: int) -> float:
        """Take the wire for `size` bytes; when the last of them has left."""
        shape = self._shape
        begin = max(self._free, time.monotonic() - LATE)
        # The end of each period is the stall.
        period, place = divmod(begin - self._start, shape.stall_every)
        if place > shape.stall_every - shape.stall:
            begin = self._start + (period + 1) * shape.stall_every
        self._free = begin + size / shape.up_rate
        return self._free


class ShapingProxy:
    """Forwards every connection to a port on loopback over the link."""

    def __init__(self, port: int, shape: Shape) -> None:
        self._port = port
        self._shape = shape
        self._uplink = _Uplink(shape)
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, both ways, until one side ends it or the proxy does."""
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            await self._serve(reader, writer)
        finally:
            del self._serving[task]

    async def end(self) -> None:
        """End every connection."""
        for writer in self._serving.values():
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        up = asyncio.create_task(self._carry(reader, far_writer, shaped=True))
        down = asyncio.create_task(self._carry(far_reader, writer, shaped=False))
        try:
            # A connection that either side ended is of no use to the other.
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            writer.transport.abort()
            far_writer.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, shaped: bool
    ) -> None:
        # What is under way is bounded as in a router: 64 chunks, a megabyte, 0.4 s at 20 Mbit/s.
        underway: asyncio.Queue[_Chunk | None] = asyncio.Queue(64)
        delivering = asyncio.create_task(_deliver(underway, writer))
        try:
            while data := await reader.read(CHUNK):
                left = self._uplink.departure(len(data)) if shaped else time.monotonic()
                await asyncio.sleep(max(0.0, left - time.monotonic()))
                await underway.put(_Chunk(left + self._shape.round_trip / 2, data))
            await underway.put(None)
            await delivering
        except OSError:
            return  # either side has gone
        finally:
            delivering.cancel()


async def _deliver(underway: "asyncio.Queue[_Chunk | None]", writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while (chunk := await underway.get()) is not None:
            await asyncio.sleep(max(0.0, chunk.arrives - time.monotonic()))
            writer.write(chunk.data)
            await writer.drain()


@contextmanager
def shaped_link(port: int, shape: Shape) -> Iterator[int]:
    """Run the proxy in a process of its own in front of `port`; the port to connect to."""
    command = [sys.executable, "-m", "benchmarks.link", "--to", str(port)]
    command += ["--delay", str(shape.round_trip), "--rate", str(shape.up_rate)]
    command += ["--stall", str(shape.stall), "--every", str(shape.stall_every)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


async def _serve(port: int, shape: Shape) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    proxy = ShapingProxy(port, shape)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    threading.Thread(target=watch, daemon=True).start()
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    server.close()
    await proxy.end()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proxy until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.link", description=__doc__)
    parser.add_argument("--to", type=int, required=True, help="port on loopback")
    parser.add_argument("--delay", type=float, default=ROUND_TRIP, help="round trip, s (0.15)")
    parser.add_argument("--rate", type=float, default=UP_RATE, help="bytes a second, up")
    parser.add_argument("--stall", type=float, default=0.2, help="length of a stall, s")
    parser.add_argument("--every", type=float, default=10.0, help="from stall to stall, s")
    given = parser.parse_args(arguments)
    shape = Shape(
        round_trip=given.delay,
        up_rate=given.rate,
        stall=given.stall,
        stall_every=given.every,
    )
    asyncio.run(_serve(given.to, shape))
    return 0


if __name__ == "__main__":
    sys.exit(main())
