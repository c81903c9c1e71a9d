"""Quick tunnels of Cloudflare: no account, a program named cloudflared.

The program gets a new address at each start, and keeps it while it runs, even if its connection
breaks. It logs that address, and that of its metrics server on loopback, whose `/ready` says
whether it is connected.
"""

import logging
import queue
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx

from omega21.language import _
from omega21.protocol.errors import OmegaError, TunnelLost, TunnelNotSetUp, TunnelRefused
from omega21.protocol.link.tunnels import TunnelKind
from omega21.server.tunnels.provider import TunnelState

logger = logging.getLogger(__name__)

_OPEN_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0
_ADDRESS = re.compile(r"https://(?!api\.)[a-z0-9-]+\.trycloudflare\.com\b")
_METRICS = re.compile(r"metrics server on (127\.0\.0\.1:\d+)/metrics")
_CONNECTED = "Registered tunnel connection"
_ERROR = re.compile(r"\b(ERR|FTL)\b|^failed|error=", re.IGNORECASE)
_REFUSED = re.compile(r"\b429 Too Many|error code: \d+", re.IGNORECASE)

# Linux ends the program with its parent, also when the parent is killed.
_TIED = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


class CloudflaredTunnel:
    """A quick tunnel of the program at `program`."""

    kind: TunnelKind = "cloudflared"

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process: subprocess.Popen[str] | None = None
        self._metrics: str | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: deque[str] = deque(maxlen=3)

    def open(self, port: int) -> str:
        """See `Tunnel.open`."""
        self._lines, self._metrics = queue.SimpleQueue(), None
        self._errors.clear()
        self._process = self._start(port)
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        try:
            return self._address()
        except OmegaError:
            self.close()
            raise

    def _start(self, port: int) -> "subprocess.Popen[str]":
        # A configuration file of the user would disable quick tunnels, so none is read.
        # `auto` falls back to TCP if the network drops UDP; by default quick tunnels do not.
        options = ["tunnel", "--no-autoupdate", "--config", "/dev/null", "--protocol", "auto"]
        options += ["--metrics", "127.0.0.1:0", "--url", f"http://127.0.0.1:{port}"]
        command = [str(self._program), *options]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _TIED, *command]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C goes to the server, which closes the tunnel last
            )
        except OSError as error:
            raise TunnelNotSetUp(
                _("{program} cannot be run: {reason}").format(program=self._program, reason=error)
            ) from error

    def _address(self) -> str:
        """Wait until the program has an address and a connection."""
        address: str | None = None
        for line in self._log():
            address = address or _found(_ADDRESS, line)
            self._metrics = self._metrics or _found(_METRICS, line, group=1)
            if address and _CONNECTED in line:
                return address
        raise self._failure()

    def _log(self) -> Iterator[str]:
        """Yield the lines of its log until it ends or the time is over."""
        deadline = time.monotonic() + _OPEN_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                return
            if line is None:
                return
            logger.debug("cloudflared: %s", line)
            if _ERROR.search(line):
                self._errors.append(line)
            yield line

    def _failure(self) -> OmegaError:
        words = " / ".join(self._errors) or _("it did not say why")
        if _REFUSED.search(words):
            return TunnelRefused(
                _("Cloudflare refused a quick tunnel: {reason}").format(reason=words[:300]),
                hint=_("wait some minutes, or use --tunnel ngrok"),
            )
        return TunnelLost(_("cloudflared opened no tunnel: {reason}").format(reason=words[:300]))

    def state(self) -> TunnelState:
        """See `Tunnel.state`."""
        if self._process is None or self._process.poll() is not None:
            return "closed"
        if self._metrics is None:
            return "open"  # an older program does not report it: it is running
        try:
            reply = httpx.get(f"http://{self._metrics}/ready", timeout=5, trust_env=False)
        except httpx.HTTPError:
            return "reconnecting"
        return "open" if reply.status_code == httpx.codes.OK else "reconnecting"

    def close(self) -> None:
        """See `Tunnel.close`."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    """Read the log to its end, so that the program never blocks on its pipe."""
    assert process.stderr is not None
    with process.stderr as log:
        for line in log:
            lines.put(line.rstrip())
    lines.put(None)


def _found(pattern: re.Pattern[str], line: str, *, group: int = 0) -> str | None:
    found = pattern.search(line)
    return None if found is None else found[group]
