"""The parent of the server process: what it does when its child is killed, hangs or cannot start.

Where a real server would take minutes to show it, the child is a few lines of Python that say what
a server says.
"""

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from omega21.protocol.errors import InvalidRequest
from omega21.server import supervisor as supervising
from omega21.server.sockets import bind
from omega21.server.supervisor import Supervisor
from tests.client.runs import tiny
from tests.servers import RunningServer, start_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

READY = "import sys, time; print('ready', flush=True);"
STEP = "print('step', flush=True);"
DIE = "import os; os._exit(1)"
WAIT_FOR_THE_END = "sys.stdin.read()"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningServer]:
    with start_server(tmp_path / "data", "--device", "cpu", "--threads", "1") as running:
        yield running


def wait_for_end(process: int) -> None:
    """Wait until the process behind a descriptor is gone."""
    with open(process, closefd=True):
        assert select.select([process], [], [], 60)[0], "it has not ended in a minute"


# --- a real child ---


def test_a_killed_child_is_replaced_and_no_connection_is_refused(own: RunningServer) -> None:
    stop = threading.Event()
    refused: list[Exception] = []

    def ask() -> int:
        answered = 0
        while not stop.is_set():
            try:
                httpx.get(f"{own.address}/health", timeout=60).raise_for_status()
                answered += 1
            except httpx.ConnectError as error:
                refused.append(error)
                raise
            except (httpx.ReadError, httpx.RemoteProtocolError):
                continue  # it was being answered when the process was killed
        return answered

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        own.kill_child()
        status = httpx.get(f"{own.address}/status", timeout=60).json()
        stop.set()
        assert all(one.result() for one in asking)
    assert not refused
    assert status["restarts"] == 1
    assert "SIGKILL" in status["last_death"]


def test_the_child_does_not_outlive_its_parent(own: RunningServer) -> None:
    child = os.pidfd_open(own.child_pid())
    own.process.kill()
    wait_for_end(child)


def test_sigterm_ends_it_with_a_checkpoint_of_the_last_step(tmp_path: Path) -> None:
    cadence = ("--checkpoint-seconds", "3600", "--checkpoint-steps", "1000000")
    options = ("--device", "cpu", "--threads", "1", *cadence)
    with start_server(tmp_path / "data", *options) as server:
        with httpx.Client(base_url=server.address, timeout=60) as http:
            config = tiny("a").config().model_dump(mode="json")
            run = {"id": "a" * 32, "config": config}
            http.put("/runs/a", json=run).raise_for_status()
            sample = {"input_data": [0.5] * 1600, "anomaly_label": 1}
            trained = http.post("/train_layer2?run=a", json={"samples": [sample], "epochs": 3})
            assert trained.json()["step"] == 3
        child = os.pidfd_open(server.child_pid())
        assert server.stop() == 0
        wait_for_end(child)
    assert [p.stem for p in (tmp_path / "data" / "checkpoints").rglob("*.json")] == [f"{3:012d}"]


# --- a child of a few lines ---


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with closing(bind("127.0.0.1", 0)) as listening:
        yield listening


def supervise(sock: socket.socket, code: str, on_ready: Callable[[], None]) -> Supervisor:
    return Supervisor(sock, [sys.executable, "-c", code], {}, on_ready=on_ready)


def pauses_of(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, *, tries: int
) -> list[float]:
    """Run a supervisor until its child has died so often; return the pauses before each new try."""
    pauses: list[float] = []

    def pass_at_once(self: Supervisor) -> bool:
        pauses.append(self._pause)
        passed = original(self)
        return passed and len(pauses) < tries

    original = Supervisor._wait_before_restart
    monkeypatch.setattr(supervising, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(supervising, "_LONGEST_PAUSE", 0.016)
    monkeypatch.setattr(Supervisor, "_wait_before_restart", pass_at_once)
    assert supervisor.run() == 0
    return pauses


def test_a_crash_loop_backs_off_up_to_a_limit(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = supervise(sock, READY + DIE, lambda: None)
    pauses = pauses_of(supervisor, monkeypatch, tries=8)
    assert pauses[0] == 0.0
    assert all(later == min(0.016, max(0.001, 2 * pause)) for pause, later in pairwise(pauses))
    assert pauses[-1] == 0.016
    assert supervisor.restarts == 8
    assert "exit status 1" in (supervisor.last_death or "")


def test_after_a_trained_step_it_starts_afresh(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = supervise(sock, READY + STEP + DIE, lambda: None)
    assert pauses_of(supervisor, monkeypatch, tries=4) == [0.0] * 4


def test_the_longest_pause_is_half_a_minute() -> None:
    assert supervising._LONGEST_PAUSE == 30.0


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (f"import sys; sys.exit({InvalidRequest.exit_code})", InvalidRequest.exit_code),
        ("import sys; sys.exit(55)", 55),
        ("raise SystemExit('no room')", 1),
        ("import os; os._exit(1)", 1),
        ("print('alive', flush=True); import os; os._exit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_a_child_that_never_answered_is_not_started_again(
    sock: socket.socket, code: str, status: int
) -> None:
    supervisor = supervise(sock, code, lambda: None)
    assert supervisor.run() == status
    assert supervisor.restarts == 0


def test_a_child_that_hangs_before_it_answers_is_not_started_again(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_START_SECONDS", 0.05)
    supervisor = supervise(sock, "import time; time.sleep(600)", lambda: None)
    assert supervisor.run() == -signal.SIGKILL
    assert supervisor.restarts == 0


def test_one_that_cannot_start_after_another_has_worked_is_tried_again(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A disk that is full meanwhile may have room again, and nobody may be there to see it."""
    mark = tmp_path / "was here"
    first = f"import pathlib, sys; mark = pathlib.Path({str(mark)!r}); new = not mark.exists();"
    first += "mark.touch(); new and print('ready', flush=True); sys.exit(51)"
    supervisor = supervise(sock, first, lambda: None)
    assert len(pauses_of(supervisor, monkeypatch, tries=4)) == 4
    assert supervisor.restarts == 4


def test_the_same_status_of_a_child_that_has_worked_is_a_crash(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = READY + f"sys.exit({InvalidRequest.exit_code})"
    supervisor = supervise(sock, code, lambda: None)
    assert len(pauses_of(supervisor, monkeypatch, tries=2)) == 2


def test_a_silent_child_is_killed(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "_SILENCE_SECONDS", 0.05)
    supervisor = supervise(sock, READY + WAIT_FOR_THE_END, lambda: None)
    pauses_of(supervisor, monkeypatch, tries=1)
    assert "SIGKILL" in (supervisor.last_death or "")


def test_told_to_stop_it_ends_its_child_and_returns_0(sock: socket.socket) -> None:
    ready = threading.Event()
    supervisor = supervise(sock, READY + WAIT_FOR_THE_END, ready.set)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(supervisor.run)
        assert ready.wait(60)
        supervisor.stop()
        assert running.result(60) == 0
    assert supervisor.restarts == 0


def test_a_child_that_does_not_stop_is_killed(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert supervising._STOP_SECONDS <= 10.0
    monkeypatch.setattr(supervising, "_STOP_SECONDS", 0.05)
    ready = threading.Event()
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY
    deaf += "time.sleep(600)"
    supervisor = supervise(sock, deaf, ready.set)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(supervisor.run)
        assert ready.wait(60)
        supervisor.stop()
        assert running.result(60) == 0


def test_a_child_that_is_still_starting_ends_at_once(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_STOP_SECONDS", 600.0)
    supervisor = supervise(sock, "import time; time.sleep(600)", lambda: None)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(supervisor.run)
        supervisor.stop()
        assert running.result(60) == 0


def test_told_to_stop_during_a_pause_it_starts_no_other_child(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_FIRST_PAUSE", 600.0)
    monkeypatch.setattr(supervising, "_LONGEST_PAUSE", 600.0)
    paused = threading.Event()
    original = Supervisor._wait_before_restart

    def tell(self: Supervisor) -> bool:
        if self._pause:
            paused.set()
        return original(self)

    monkeypatch.setattr(Supervisor, "_wait_before_restart", tell)
    supervisor = supervise(sock, READY + DIE, lambda: None)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(supervisor.run)
        assert paused.wait(60)
        supervisor.stop()
        assert running.result(60) == 0
    assert supervisor.restarts == 2
