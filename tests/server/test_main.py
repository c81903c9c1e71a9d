"""The server as a process: how it starts, what it says, and how it ends."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from omega21.protocol.errors import InvalidRequest, RunFolderConflict
from omega21.server.main import serve
from omega21.server.options import ServeOptions
from omega21.server.sockets import address, bind
from tests.servers import RunningServer, start_server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningServer]:
    """A server that the test may end."""
    with start_server(tmp_path / "data", "--device", "cpu", "--threads", "1") as running:
        yield running


def rest_of_stdout(server: RunningServer) -> str:
    assert server.process.stdout is not None
    return server.process.stdout.read()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_and_waiting_requests_get_a_reply(
    own: RunningServer, number: signal.Signals
) -> None:
    with httpx.Client(base_url=own.address, timeout=60) as http, ThreadPoolExecutor(3) as pool:
        known = http.get("/runs/default/steps").json()
        polls = [
            pool.submit(httpx.get, f"{own.address}/runs/default/steps?wait=25", timeout=60)
            for _ in range(3)
        ]
        # A fourth that is answered: the others, sent before it, have reached the server too.
        http.get("/health").raise_for_status()
        own.process.send_signal(number)
        answered = [poll.exception() or poll.result().json() for poll in polls]
        assert own.process.wait(timeout=60) == 0
    # A poll that the signal overtook on its way is cut off; none hangs, none is a 500.
    cut_off = (httpx.NetworkError, httpx.RemoteProtocolError)
    assert all(isinstance(a, cut_off) or a == known for a in answered), answered
    assert rest_of_stdout(own) == ""
    assert "Traceback" not in own.log


def test_the_end_of_standard_input_ends_it(own: RunningServer) -> None:
    assert own.process.stdin is not None
    own.process.stdin.close()
    assert own.process.wait(timeout=60) == 0


def test_it_serves_what_a_token_opens_and_never_shows_it(tmp_path: Path) -> None:
    with start_server(tmp_path / "data", "--log-level", "debug", token="a-secret") as server:
        refused = httpx.get(f"{server.address}/status")
        bearer = httpx.get(f"{server.address}/status", headers={"Authorization": "Bearer a-secret"})
        basic = httpx.get(f"{server.address}/status", auth=("anyone", "a-secret"))
        assert [r.status_code for r in (refused, bearer, basic)] == [401, 200, 200]
        assert "a-secret" not in server.log
        assert "a-secret" not in str(server.process.args)


def test_a_second_server_on_the_same_folder_is_refused(own: RunningServer) -> None:
    other = subprocess.run(
        [sys.executable, "-m", "omega21.server", "--data-dir", own.data_dir, "--port", "0"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert other.returncode == RunFolderConflict.exit_code
    assert other.stderr.count("\n") == 1
    assert "another server uses" in other.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_address_of_others_without_a_token(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidRequest, match="there is no token; give one in OMEGA21_TOKEN"):
        serve(ServeOptions(data_dir=tmp_path / "data", host=host, port=0))
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_is_named() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidRequest, match=f"cannot listen on 127.0.0.1, port {port}"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port"), [("no such host", 0), ("127.0.0.1", 99_999), ("127.0.0.1", -1)]
)
def test_an_impossible_address_is_named(host: str, port: int) -> None:
    with pytest.raises(InvalidRequest, match=f"{port} is not a port|is not an address"):
        bind(host, port)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address_is_written_as_a_url() -> None:
    with bind("::1", 0) as sock:
        assert address(sock) == f"http://[::1]:{sock.getsockname()[1]}"
