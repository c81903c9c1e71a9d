"""What the client counts by server and month, and what it makes of the server's own count."""

from pathlib import Path

import pytest

from omega21.client.client import AsyncClient
from omega21.client.http.usage import Traffic, TrafficBook, default_path, joined
from omega21.data.usage import Counted, TrafficLedger
from omega21.protocol.link.usage import month_traffic
from tests.carriers import NGROK, TunnelCarrier
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

HOST = "some-words.ngrok-free.app"


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def through_tunnel(server: RunningServer) -> AsyncClient:
    return AsyncClient(NGROK, token=server.token, transport=TunnelCarrier(server.address))


async def test_both_sides_count_the_same(server: RunningServer) -> None:
    async with through_tunnel(server) as client:
        first = (await client.status()).traffic
        sent, got = client.traffic.bytes_sent, client.traffic.bytes_received
        await client.api.shards.missing([f"{number:064x}" for number in range(2000)])
        before_last = client.traffic.bytes_received
        async with AsyncClient(server.address, token=server.token) as direct:
            second = (await direct.status()).traffic
    assert first is not None
    assert second is not None
    assert second.requests >= 3
    # The server has seen the two requests of the first client, and the last one's own.
    up, down = client.traffic.bytes_sent - sent, before_last - got
    assert abs(second.bytes_in - first.bytes_in - up) < 1_500
    assert abs(second.bytes_out - first.bytes_out - down) < 1_500


async def test_it_is_kept_by_host_and_goes_on_with_the_next_client(server: RunningServer) -> None:
    async with through_tunnel(server) as client:
        await client.api.legacy.health()
        await client.api.legacy.health()
    async with through_tunnel(server) as client:
        await client.api.legacy.health()
    counted = TrafficLedger(default_path()).read(HOST)
    assert counted.requests == 3
    assert counted.bytes_in > 3 * 50
    assert counted.bytes_out > 3 * 50


async def test_a_server_on_this_machine_is_behind_no_tunnel(server: RunningServer) -> None:
    async with AsyncClient(server.address, token=server.token) as client:
        await client.status()
    assert not default_path().exists()


async def test_status_goes_by_the_larger_count_and_by_the_tunnel_of_the_address(
    server: RunningServer,
) -> None:
    TrafficLedger(default_path()).add(HOST, Counted(19_000, 900_000_000, 0))
    async with through_tunnel(server) as client:
        traffic = (await client.status()).traffic
    assert traffic is not None
    assert traffic.tunnel == "ngrok"
    assert traffic.requests_left == 999
    assert traffic.bytes_left is not None
    assert 0 < traffic.bytes_left < 100_000_000


def test_the_larger_count_holds_whichever_side_it_is_on() -> None:
    theirs = month_traffic("ngrok", month="2025-01", requests=5, bytes_in=6, bytes_out=700)
    ours = Counted(50, 1, 2)
    both = joined(theirs, ours, host="x")
    assert (both.requests, both.bytes_in, both.bytes_out) == (50, 6, 700)
    assert both.bytes_left == 10**9 - 706
    spent = month_traffic("ngrok", month="2025-01", requests=30_000, bytes_in=2**40, bytes_out=0)
    assert (spent.requests_left, spent.bytes_left) == (0, 0)


def test_a_count_that_cannot_be_kept_is_kept_later_and_once(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sqlite"
    path.mkdir()
    traffic = Traffic(requests=2, bytes_sent=3, bytes_received=4)
    book = TrafficBook("h", traffic, path=path)
    book.write()
    path.rmdir()
    book.write()
    book.write()
    assert TrafficLedger(path).read("h") == Counted(2, 3, 4)
