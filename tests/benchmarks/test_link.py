"""The link of the benchmarks: what it carries comes out whole, and it keeps to its rate."""

import asyncio
import os

import pytest

from benchmarks.link import LATE, Shape, _Uplink, shaped_link

DATA = os.urandom(300_000)
QUICK = Shape(round_trip=0.002, up_rate=1e9, stall=0.0, stall_every=10.0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(10_000):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.anyio
async def test_bytes_come_out_as_they_went_in_both_ways() -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]

        async def ask(size: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", front)
            writer.write(DATA[:size])
            got = await reader.readexactly(size)
            writer.close()
            return got

        with shaped_link(port, QUICK) as front:
            got = await asyncio.gather(*(ask(size) for size in (1, 1000, len(DATA))))
    assert got == [DATA[:1], DATA[:1000], DATA]


def test_bytes_leave_at_the_rate_one_after_another_and_not_in_a_stall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("benchmarks.link.time.monotonic", lambda: now)
    uplink = _Uplink(Shape(up_rate=1000.0, stall=1.0, stall_every=4.0))
    assert uplink.departure(1000) == pytest.approx(101.0)
    assert uplink.departure(500) == pytest.approx(101.5)  # both at once: it waits for the first
    now = 103.5  # the link stands still from 103 to 104
    assert uplink.departure(1000) == pytest.approx(105.0)
    now = 110.0
    assert uplink.departure(1000) == pytest.approx(111.0 - LATE)  # no more than that is saved up
    assert Shape(up_rate=1000.0, stall=1.0, stall_every=4.0).carried_rate == 750.0
