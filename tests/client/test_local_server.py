"""A server as a child process: it comes up, says why when it does not, and never stays behind."""

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from omega21 import Client
from omega21.client import local_server as embedded
from omega21.client.local_server import LocalServer
from omega21.protocol.errors import NotOnThisServer, Unavailable, Unreachable


def test_it_serves_while_it_is_needed_and_then_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMEGA21_TOKEN", "of another server")
    with LocalServer(tmp_path / "one" / "server", arguments=["--threads", "1"]) as server:
        address = server.address
        with Client(address) as client:
            assert client.connect().run == "default"
        assert server.log_path.exists()
    with Client(address, attempts=1) as client, pytest.raises(Unreachable):
        client.api.legacy.health()
    with pytest.raises(Unavailable, match="not been started"):
        _ = server.address


def test_it_starts_again_after_it_was_stopped(tmp_path: Path) -> None:
    server = LocalServer(tmp_path / "server", arguments=["--threads", "1"])
    for _ in range(2):
        with server, Client(server.address) as client:
            assert client.connect().run == "default"


def test_it_does_not_outlive_a_program_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from omega21.client.local_server import LocalServer\n"
        "print(LocalServer(Path(sys.argv[1])).start(), flush=True); os._exit(9)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code, tmp_path], check=False, capture_output=True, text=True
    )
    port = int(started.stdout.strip().rpartition(":")[2])
    # The child ends once it sees that its input has: its port is free then, or free already.
    with socket.socket() as probe:
        probe.settimeout(30)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            with suppress(ConnectionResetError):  # nobody accepted it any more
                assert probe.recv(1) == b""


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_NEEDED", ("numpy", "no_such_package"))
    with pytest.raises(NotOnThisServer, match="needs no_such_package") as caught:
        LocalServer(tmp_path / "server").start()
    assert "pip install '.[server]'" in caught.value.hint
    assert not (tmp_path / "server").exists()


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    server = LocalServer(tmp_path / "server", arguments=["--device", "no-such-device"])
    with pytest.raises(Unavailable, match=r"did not start: .*no-such-device") as caught:
        server.start()
    assert "server.log" in caught.value.hint
