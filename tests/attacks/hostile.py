"""A server that means harm: it answers as a real one did, but for one thing.

`record` keeps the answers of a real server. `HostileServer` gives them, and where the address of a
request ends in `Harm.at`, lets the harm answer in their place. `run_client` runs the real command
line against it and measures its memory.
"""

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from omega21.protocol.printable import printable

RUN = "harmed"
MEMORY_MB = 300
"""More than this no reply may cost a client."""

PATIENCE_SECONDS = 3
MOST_SECONDS = 150.0
"""After so long a client is taken to have been kept for ever."""

JSON = "application/json"
TENSORS = "application/vnd.safetensors"
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    """An answer: a status, headers, and a body in pieces, which may have no end."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    pieces: Callable[[], Iterator[bytes]] | None = None
    sized: bool = True

    def with_body(self, body: bytes) -> "Reply":
        """Return the same answer with another body."""
        return replace(self, body=body)

    def with_headers(self, **headers: str) -> "Reply":
        """Return the same answer with other headers; `_` in a name stands for a hyphen."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return replace(self, headers={**self.headers, **named})


@dataclass(frozen=True)
class Harm:
    """One thing that is wrong: for which command, at which address, and how."""

    name: str
    command: tuple[str, ...]
    at: str
    change: Callable[[Reply], Reply]

    def __str__(self) -> str:
        return f"{self.command[0]}: {self.name}"


Recorded = dict[str, Reply]


def record(address: str, run: str) -> Recorded:
    """Ask a real server everything that the commands ask, and keep what it says."""
    paths = ["/info", "/health", "/status", "/metricas", "/runs", "/logs", f"/runs/{run}"]
    paths += [f"/runs/{run}/{name}" for name in ("plan", "steps", "evaluations")]
    recorded = {path: _fetch(address, path) for path in paths}
    for part in ("full", "weights"):
        path = f"/runs/{run}/checkpoint"
        recorded[f"{path}?{part}"] = _fetch(address, f"{path}?part={part}")
    return recorded


def _fetch(address: str, path: str) -> Reply:
    request = urllib.request.Request(address + path)
    with urllib.request.urlopen(request) as response:
        kept = ("content-type", "etag", "omega21-step")
        headers = {n: t for n, t in response.headers.items() if n.lower() in kept}
        return Reply(response.status, headers, response.read())


class HostileServer:
    """Gives recorded answers on loopback, one a connection, all but one as they were."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.harm: Harm | None = None
        self.harmed = 0
        self._tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._tcp.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._tcp.server_address[1]}"

    def _handler(server) -> type[socketserver.StreamRequestHandler]:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    head = _read_request(self.rfile)
                    if head:
                        write_reply(self.wfile, server.answer(head))
                except OSError:
                    return  # the client has had enough

        return Handler

    def answer(self, target: str) -> Reply:
        """Return the answer for an address: recorded, or the harm's."""
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        key = f"{parts.path}?{query['part'][0]}" if "part" in query else parts.path
        reply = self.recorded.get(key)
        if reply is None:
            return Reply(404, {"Content-Type": "text/plain"}, b"no")
        if parts.path.endswith("/steps"):
            reply = _rows_after(reply, int(query["after"][0]), int(query["limit"][0]))
        elif parts.path.endswith("/evaluations"):
            reply = _evaluations_after(reply, int(query["after"][0]))
        if self.harm is not None and key.endswith(self.harm.at):
            self.harmed += 1
            return self.harm.change(reply)
        return reply

    @contextmanager
    def running(self) -> Iterator["HostileServer"]:
        """Serve."""
        thread = threading.Thread(target=self._tcp.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._tcp.shutdown()
            self._tcp.server_close()
            thread.join()


def _read_request(stream: Any) -> str:
    """Read a request whole, and return its address."""
    target, length = "", 0
    while line := stream.readline(65_536).strip():
        if not target:
            target = line.split(b" ")[1].decode("ascii")
        elif line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    stream.read(length)
    return target


def write_reply(stream: Any, reply: Reply) -> None:
    headers = dict(reply.headers)
    if reply.pieces is None and reply.sized:
        headers.setdefault("Content-Length", str(len(reply.body)))
    lines = [f"HTTP/1.1 {reply.status} OK", *(f"{n}: {t}" for n, t in headers.items())]
    lines += ["Connection: close", "", ""]
    stream.write("\r\n".join(lines).encode("latin-1", "replace"))
    stream.write(reply.body)
    for piece in reply.pieces() if reply.pieces is not None else ():
        stream.write(piece)
        stream.flush()


def _rows_after(reply: Reply, after: int, limit: int) -> Reply:
    document = json.loads(reply.body)
    rows = [row for row in document["steps"] if row["step"] > after][:limit]
    return reply.with_body(json.dumps({**document, "steps": rows}).encode())


def _evaluations_after(reply: Reply, after: int) -> Reply:
    document = json.loads(reply.body)
    rows = [row for row in document["evaluations"] if row["number"] > after]
    return reply.with_body(json.dumps({**document, "evaluations": rows}).encode())


_MEASURED = """
import os, sys
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_pid, status, usage = os.wait4(pid, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"""
"""Runs a command from a small process: one of a large one counts the memory of that as its own."""


class Ended(NamedTuple):
    """How a command ended: its status, what it wrote, and the most memory it took, in MB."""

    status: int
    out: str
    err: str
    megabytes: float


def run_client(
    command: Sequence[str], server: HostileServer, folder: Path, *, run: str = RUN
) -> Ended:
    """Run `omega21 COMMAND` against the server; what does not end is killed."""
    words = [sys.executable, "-m", "omega21"]
    words += [word.format(url=server.address, run=run, folder=folder) for word in command]
    environment = {
        **{n: t for n, t in os.environ.items() if not n.startswith("OMEGA21")},
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_STATE_HOME": str(folder / "state"),
        "TMPDIR": str(folder),
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "en",
    }
    files = [folder / f"written-{name}" for name in ("out", "err", "memory")]
    with files[0].open("wb") as to_out, files[1].open("wb") as to_err:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", _MEASURED, str(files[2]), *words],
            stdout=to_out,
            stderr=to_err,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        try:
            process.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    out, err = (file.read_text("utf-8", "backslashreplace") for file in files[:2])
    memory = int(files[2].read_text("ascii")) / 1024 if files[2].exists() else 0.0
    return Ended(process.returncode, out, err, memory)


def faults_of(ended: Ended) -> list[str]:
    """Say what is wrong with the way in which a client ended; nothing, where it was not harmed."""
    found = []
    if ended.status < 0:
        found.append(f"ended by signal {-ended.status}: it was kept for ever")
    if ended.megabytes > MEMORY_MB:
        found.append(f"took {ended.megabytes:.0f} MB")
    text = ended.out + ended.err
    if "Traceback" in text or "internal error" in text:
        found.append("a fault of its own")
    errors = [line for line in ended.err.splitlines() if line.startswith("error:")]
    if ended.status != 0 and len(errors) != 1:
        found.append(f"{len(errors)} lines of errors")
    if unseen := {c for c in text if printable(c) != c} - {"\n"}:
        found.append(f"wrote {unseen!r}")
    if found:
        found.append(f"[{ended.status}] {ended.err[-500:]!r} {ended.out[-300:]!r}")
    return found
