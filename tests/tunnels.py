"""Stand-ins for the two tunnel providers, at the providers' own edge; the rest of a test is real.

`FakeCloudflared` is a program that takes cloudflared's options, logs what it logs, and answers
`/ready` on loopback as it does; its addresses lead nowhere. `fake_ngrok` is a module named `ngrok`
with the part of the SDK that is used; its addresses are ports of loopback that forward, so that a
client can go through them. Neither reaches the network.
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = r"""#!{python}
import http.server, os, pathlib, sys, threading, time
folder = pathlib.Path({folder!r})
number = len(list(folder.glob("started-*"))) + 1
(folder / f"started-{{number}}").write_text("\n".join(sys.argv[1:]))
(folder / "pid").write_text(str(os.getpid()))
behaviour = (folder / "behaviour").read_text()

def log(level, text):
    print(f"2026-01-01T00:00:00Z {{level}} {{text}}", file=sys.stderr, flush=True)

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if (folder / "offline").exists() else 200)
        self.end_headers()
    def log_message(self, *_):
        pass

log("INF", "Requesting new quick Tunnel on trycloudflare.com...")
if behaviour == "no network":
    print('failed to request quick Tunnel: Post "https://api.trycloudflare.com/tunnel": dial tcp: '
          'lookup api.trycloudflare.com: no such host', file=sys.stderr)
    sys.exit(1)
if behaviour == "refused":
    log("ERR", 'Error unmarshaling QuickTunnel response: error code: 1015 error="invalid '
        'character" status_code="429 Too Many Requests"')
    sys.exit(1)
log("INF", "+------------------------------------------------------------+")
log("INF", f"|  https://quick-words-{{number}}.trycloudflare.com          |")
log("INF", "+------------------------------------------------------------+")
metrics = http.server.HTTPServer(("127.0.0.1", 0), Ready)
log("INF", f"Starting metrics server on 127.0.0.1:{{metrics.server_port}}/metrics")
threading.Thread(target=metrics.serve_forever, daemon=True).start()
if behaviour == "never connected":
    log("ERR", 'failed to dial to edge with quic error="timeout: no recent network activity"')
    sys.exit(1)
log("INF", "Registered tunnel connection connIndex=0 location=mad01 protocol=quic")
signalled = threading.Event()
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
"""


@dataclass
class FakeCloudflared:
    """A program at `path`; its files say how often it was started, and how it behaves."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text(_PROGRAM.format(python=sys.executable, folder=str(self.folder)))
        self.path.chmod(0o755)
        self.behave("well")

    @property
    def path(self) -> Path:
        return self.folder / "cloudflared"

    @property
    def starts(self) -> int:
        """How often it was started."""
        return len(list(self.folder.glob("started-*")))

    def options(self, number: int) -> list[str]:
        """The options of a start, counted from 1."""
        return (self.folder / f"started-{number}").read_text().splitlines()

    def behave(self, how: str) -> None:
        """Behave so from the next start on: well, no network, refused, never connected."""
        (self.folder / "behaviour").write_text(how)

    def go_offline(self) -> None:
        """Say from now on that there is no connection."""
        (self.folder / "offline").touch()

    def open_process(self) -> int:
        """A descriptor of the process that was started last."""
        return os.pidfd_open(int((self.folder / "pid").read_text()))

    def kill(self) -> None:
        """End the process that was started last."""
        process = self.open_process()
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)


NGROK = r'''
"""Stands in for the SDK of ngrok: the same calls, the same plain ValueErrors."""
import asyncio, os, pathlib, socket, threading

_folder = pathlib.Path(__file__).parent

def _forward(port):
    """A port of loopback that leads to another one."""
    listening = socket.create_server(("127.0.0.1", 0))
    def copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    def accept():
        while True:
            try:
                outer, _ = listening.accept()
            except OSError:
                return
            inner = socket.create_connection(("127.0.0.1", port))
            for pair in ((outer, inner), (inner, outer)):
                threading.Thread(target=copy, args=pair, daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return listening

class SessionBuilder:
    def authtoken(self, token):
        self.token = token
        return self
    def metadata(self, text):
        return self
    def handle_heartbeat(self, handler):
        self.beat = handler
        return self
    def handle_disconnection(self, handler):
        self.disconnected = handler
        return self
    def handle_stop_command(self, handler):
        self.stopped = handler
        return self
    async def connect(self):
        count = _folder / "sessions"
        count.write_text(count.read_text() + "x" if count.exists() else "x")
        problem = _folder / "problem"
        if problem.exists():
            words, _, code = problem.read_text().partition("|")
            words = words.replace("TOKEN", self.token)
            args = ("failed to connect session", words)
            raise ValueError(*args, *([code] if code else []))
        threading.Thread(target=self._until_stopped, daemon=True).start()
        return Session()
    def _until_stopped(self):
        fifo = _folder / "stop"
        if not fifo.exists():
            return
        with fifo.open() as waiting:
            waiting.read()
        self.stopped()

class Session:
    listening = None
    def http_endpoint(self):
        return self
    async def listen_and_forward(self, to_url):
        self.listening = _forward(int(to_url.rpartition(":")[2]))
        return self
    def url(self):
        if "FAKE_NGROK_URL" in os.environ:  # a proxy of the test's own stands before the port
            return os.environ["FAKE_NGROK_URL"]
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"
    async def close(self):
        if self.listening:
            self.listening.close()
'''


@dataclass
class FakeNgrok:
    """A module named `ngrok` in `folder`, which comes first on PYTHONPATH."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "ngrok.py").write_text(NGROK)
        os.mkfifo(self.folder / "stop")

    @property
    def sessions(self) -> int:
        """How often a session was asked for."""
        count = self.folder / "sessions"
        return len(count.read_text()) if count.exists() else 0

    def fail(self, words: str, code: str = "") -> None:
        """Refuse sessions from now on; TOKEN in the words stands for the token given."""
        (self.folder / "problem").write_text(f"{words}|{code}")

    def recover(self) -> None:
        """Give sessions again."""
        (self.folder / "problem").unlink()

    def stop_session(self) -> None:
        """End the session, as ngrok's dashboard can."""
        with (self.folder / "stop").open("w"):
            pass
