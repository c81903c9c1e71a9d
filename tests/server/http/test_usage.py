"""What the server counts of its port: whole bodies, both directions, over restarts and kills."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from omega21.data.usage import Counted, TrafficLedger
from omega21.protocol.link.usage import MonthTraffic
from omega21.server.http.usage import TRAFFIC_FILE, TrafficMeter
from tests.servers import RunningServer, start_server

RUN_ID = "0" * 32


def traffic(http: httpx.Client) -> dict[str, Any]:
    found = http.get("/status").json()["traffic"]
    MonthTraffic.model_validate(found)
    return dict(found)


def test_each_request_is_counted_with_its_body_in_both_directions(http: httpx.Client) -> None:
    before = traffic(http)
    body = b"x" * 100_000
    refused = http.put(f"/shards/{'0' * 64}", content=body)
    read = http.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    after = traffic(http)

    assert after["requests"] - before["requests"] == 3
    sent, got = after["bytes_in"] - before["bytes_in"], after["bytes_out"] - before["bytes_out"]
    assert refused.status_code >= 400
    assert 100_000 < sent < 102_000
    assert len(read.content) < got < len(read.content) + len(refused.content) + 4_000


def test_a_compressed_reply_counts_as_it_is_sent(http: httpx.Client) -> None:
    before = traffic(http)["bytes_out"]
    with http.stream("GET", "/openapi.json", headers={"Accept-Encoding": "gzip"}) as reply:
        sent = sum(len(chunk) for chunk in reply.iter_raw())
        assert reply.headers["content-encoding"] == "gzip"
    got = traffic(http)["bytes_out"] - before
    assert sent < got < sent + 3_000


def test_it_goes_on_after_a_stop_and_loses_at_most_a_little_when_killed(tmp_path: Path) -> None:
    arguments = ("--device", "cpu", "--threads", "1")
    with start_server(tmp_path / "data", *arguments) as server:
        requests = _ask(server, times=30)
        server.stop()
        on_disk = TrafficLedger(tmp_path / "data" / TRAFFIC_FILE).read("this server")
        assert on_disk.requests == requests
        server.restart()
        with httpx.Client(base_url=server.address) as http:
            found = traffic(http)
        assert found["requests"] == requests + 1
        assert found["requests_left"] is found["bytes_left"] is None
        server.kill()
        server.restart()
        with httpx.Client(base_url=server.address) as http:
            assert requests < traffic(http)["requests"] <= requests + 2


def test_what_the_tunnel_leaves_is_what_it_allows_less_what_passed(tmp_path: Path) -> None:
    meter = TrafficMeter(tmp_path, tunnel="ngrok")
    TrafficLedger(tmp_path / TRAFFIC_FILE).add("this server", Counted(30, 1_000, 2_000))
    found = meter.month()

    assert (found.requests_left, found.bytes_left) == (20_000 - 30, 10**9 - 3_000)


def _ask(server: RunningServer, *, times: int) -> int:
    with httpx.Client(base_url=server.address) as http:
        for _ in range(times):
            assert http.get("/health").status_code == 200
    return times


@pytest.mark.anyio
async def test_what_cannot_be_written_now_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    meter = TrafficMeter(tmp_path, tunnel="none")
    in_the_way = tmp_path / TRAFFIC_FILE
    in_the_way.mkdir()
    meter.passed(requests=1, bytes_in=5)
    meter.write()
    assert "not written" in caplog.text
    assert meter.month().requests == 1
    in_the_way.rmdir()
    meter.write()
    meter.write()
    assert TrafficLedger(in_the_way).read("this server") == Counted(1, 5, 0)
