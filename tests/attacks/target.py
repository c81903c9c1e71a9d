"""A real server with a token, its owner who trains on it all the while, and how to attack it."""

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from omega21 import Client
from omega21.protocol.runs import RunState
from tests.engine.engines import (
    CONFIG,
    Shard,
    cut,
    make_samples,
    make_segment,
    running,
    wait_until,
)
from tests.servers import RunningServer

TOKEN = "the-owner's-token-that-nobody-guesses"
RUN = "attacked"
RUN_ID = "a" * 32
BEARER = f"Authorization: Bearer {TOKEN}\r\n"

_SEGMENT = {"batch_size": 16, "epochs": 100_000, "order_seed": 3}
_MEGABYTE = 2**20


class Reply(NamedTuple):
    """What came back: a status, 0 for a connection that ended without one, and all the bytes."""

    status: int
    text: bytes


def _shards() -> list[Shard]:
    return cut(make_samples(64), 64)


class Target:
    """The server under attack. `attacked` is the time of an attack, in which the owner trains."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.child = server.child_pid()
        shards = _shards()
        with self.owner() as owner:
            owner.api.runs.create(RUN, run_id=RUN_ID, config=CONFIG)
            for shard in shards:
                owner.api.shards.put(shard.sha256, shard.body)
            segment = make_segment(shards, **_SEGMENT)
            owner.api.plans.put_segment(RUN, 0, run_id=RUN_ID, segment=segment)
            # What the first step makes the process load is no attack's doing.
            owner.api.runs.advance(RUN, run_id=RUN_ID, to=1)
            assert owner.api.steps.read(RUN, wait=25).steps

    def owner(self) -> Client:
        """The owner's client, which tries again where that helps, as it always does."""
        return Client(self.server.address, token=TOKEN, attempts=20)

    @contextmanager
    def attacked(self, *, megabytes: int) -> Iterator[None]:
        """Have the owner train while the body runs; afterwards nothing must have suffered.

        The server's memory may at no time grow by more than `megabytes`.
        """
        before = self._reset_peak()
        stop, trained = threading.Event(), threading.Semaphore(0)
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(self._work, stop, trained)
            try:
                yield
                for _ in range(2):  # one step may have begun before the attack's end
                    while not trained.acquire(timeout=1):
                        assert not working.done(), working.result()
            finally:
                stop.set()
            working.result()
        grown = (self._memory("VmHWM") - before) / _MEGABYTE
        assert grown < megabytes, f"the server's memory grew by {grown:.0f} MB"
        assert self.server.child_pid() == self.child, "the server was started again"
        assert "Traceback" not in self.server.log
        assert TOKEN not in self.server.log

    def _work(self, stop: threading.Event, trained: threading.Semaphore) -> None:
        with self.owner() as owner:
            step = owner.status(RUN).step
            while not stop.is_set():
                step += 1
                owner.api.runs.advance(RUN, run_id=RUN_ID, to=step)
                assert [
                    row.step for row in owner.api.steps.read(RUN, after=step - 1, wait=25).steps
                ] == [step]
                trained.release()

    def undisturbed(self, folder: Path) -> tuple[RunState, RunState]:
        """The run's state, and that of the same run on a server that nobody attacked."""
        with self.owner() as owner:
            state = owner.api.runs.state(RUN)
        shards = _shards()
        with running(folder) as engine:
            engine.runs.create(RUN, RUN_ID, CONFIG)
            for shard in shards:
                engine.shards.put(shard.sha256, shard.body, compressed=True)
            segment = make_segment(shards, **_SEGMENT)
            engine.plans.put_segment(RUN, 0, run_id=RUN_ID, segment=segment)
            engine.plans.advance(RUN, RUN_ID, state.step)
            wait_until(engine, RUN, lambda now: now.step == state.step)
            return state, engine.runs.state(RUN)

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=60)

    def send(self, request: bytes, *, close: bool = False) -> Reply:
        """Send bytes, and read until the server has answered once, or closed.

        With `close`, the client says that it sends no more.
        """
        with closing(self.connect()) as connection:
            with suppress(ConnectionError):  # refused before it was all sent
                connection.sendall(request)
                if close:
                    connection.shutdown(socket.SHUT_WR)
            return read_reply(connection, has_body=not request.startswith(b"HEAD "))

    def send_all(self, requests: list[bytes], *, at_once: int = 8) -> list[Reply]:
        """Send many requests, several at once."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(self.send, requests))

    def open_files(self) -> int:
        """How many files the server has open, connections included."""
        return sum(1 for _ in Path(f"/proc/{self.child}/fd").iterdir())

    def _reset_peak(self) -> int:
        Path(f"/proc/{self.child}/clear_refs").write_text("5", encoding="ascii")
        return self._memory("VmRSS")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.child}/status").read_text(encoding="ascii")
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


def read_reply(connection: socket.socket, *, has_body: bool = True) -> Reply:
    """Read one reply; an end without one has status 0."""
    text = b""
    with suppress(ConnectionError), connection.makefile("rb") as file:
        while (line := file.readline()) not in {b"\r\n", b""}:
            text += line
        length = re.search(rb"(?im)^content-length: *(\d+)", text)
        text += b"\r\n" + file.read(int(length[1]) if length and has_body else 0)
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", text)
    return Reply(int(found[1]) if found else 0, text)


def request(method: str, path: str, *headers: str, token: bool = True, body: bytes = b"") -> bytes:
    """A request as bytes, with its length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines) + "\r\n" + (BEARER if token else "") + "\r\n"
    return head.encode() + body


def refused(replies: list[Reply]) -> bool:
    """Whether each was answered with a problem of its own fault, which tells nothing inside."""
    return all(400 <= r.status < 500 and b"Traceback" not in r.text for r in replies)
