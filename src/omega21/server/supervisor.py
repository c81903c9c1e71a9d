"""The parent of the server process: holds the listening socket, and replaces a child that dies.

The socket belongs to the parent, so while a child is replaced connections are accepted by the
system and wait; none is refused. The child reports on a pipe, one word a line:

    ready    it answers
    step     it has trained a step: a crash after this is a new one
    alive    every few seconds, from the loop that answers requests

A child that says nothing for a while hangs and is killed. A child that ends is started again,
after a pause that grows while children die without training a step, to at most 30 s. Only where no
child has ever answered is none started again: somebody is there who started the server and can mend
what keeps it from starting, and it would keep the next child from it too. Later, what does so (a
full disk, a device that is gone) may pass, and nobody may be there.

The child reads its end of a pipe from the parent and stops when that closes, so it never outlives
its parent, however the parent ends.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from socket import socket
from typing import TYPE_CHECKING

from omega21.language import current_locale

if TYPE_CHECKING:
    from omega21.engine.engine import Engine

HEARTBEAT_SECONDS = 5.0
_SILENCE_SECONDS = 60.0
_START_SECONDS = 300.0
_STOP_SECONDS = 10.0
_LONGEST_PAUSE = 30.0
_FIRST_PAUSE = 0.5
_PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Ended:
    status: int


@dataclass
class Supervisor:
    """Runs `command` with the socket's descriptor appended, until told to stop.

    `environment` is added to this process's own: what does not belong into a command line.

    `on_ready` is called when the first child answers.
    """

    sock: socket
    command: Sequence[str]
    environment: Mapping[str, str]
    on_ready: Callable[[], None]
    restarts: int = 0
    last_death: str | None = None
    _events: "queue.SimpleQueue[str | _Ended]" = field(default_factory=queue.SimpleQueue)
    _stopping: bool = False
    _pause: float = 0.0
    _was_ready: bool = False

    def stop(self) -> None:
        """End the child in an orderly way, and then `run`; for signal handlers and threads."""
        self._stopping = True
        self._events.put("stop")

    def run(self) -> int:
        """Keep a child running until told to stop; return 0 then.

        Return the first one's status if it has never answered: negative where a signal ended it.
        """
        while True:
            status = self._run_child()
            if self._stopping:
                return 0
            if not self._was_ready:
                return status
            self.last_death = f"{time.strftime('%Y-%m-%d %H:%M:%S')}: {describe(status)}"
            self.restarts += 1
            logger.warning("the server process ended: %s", describe(status))
            if not self._wait_before_restart():
                return 0

    def _run_child(self) -> int:
        child = self._start()
        assert child.stdin is not None
        with child.stdin:
            return self._watch(child)

    def _watch(self, child: "subprocess.Popen[bytes]") -> int:
        silence = _START_SECONDS
        while True:
            try:
                event = self._events.get(timeout=silence)
            except queue.Empty:
                logger.warning("the server process said nothing for %d s and is killed", silence)
                child.kill()
                silence = _STOP_SECONDS
                continue
            if isinstance(event, _Ended):
                return event.status
            silence = _SILENCE_SECONDS
            if event == "stop":
                return self._end(child)
            self._handle_signals(event)

    def _handle_signals(self, word: str) -> None:
        if word == "step":
            self._pause = 0.0
        elif word == "ready" and not self._was_ready:
            self._was_ready = True
            self.on_ready()

    def _start(self) -> "subprocess.Popen[bytes]":
        descriptor = self.sock.fileno()
        environment = {
            **os.environ,
            **self.environment,
            "OMEGA21_RESTARTS": str(self.restarts),
            "OMEGA21_LAST_DEATH": self.last_death or "",
            "LANGUAGE": current_locale(),
        }
        child = subprocess.Popen(
            [*self.command, "--socket-fd", str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            env=environment,
        )
        logger.debug("server process %d started", child.pid)
        threading.Thread(target=self._listen, args=(child,), daemon=True).start()
        return child

    def _listen(self, child: "subprocess.Popen[bytes]") -> None:
        assert child.stdout is not None
        with child.stdout as lines:
            for line in lines:
                self._events.put(line.decode().strip())
        self._events.put(_Ended(child.wait()))

    def _end(self, child: "subprocess.Popen[bytes]") -> int:
        assert child.stdin is not None
        child.stdin.close()
        child.terminate()  # ends one that is still starting at once: it has done nothing yet
        try:
            return child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            logger.warning("the server process did not stop in %d s and is killed", _STOP_SECONDS)
            child.kill()
            return child.wait()

    def _wait_before_restart(self) -> bool:
        """Pause, longer each time nothing was trained in between; False when told to stop."""
        deadline = time.monotonic() + self._pause
        while (left := deadline - time.monotonic()) > 0:
            try:
                if self._events.get(timeout=left) == "stop":
                    return False
            except queue.Empty:
                break
        self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
        return True


def describe(status: int) -> str:
    """Say how a process ended, by its status."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def child_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a server as a child, with the given options."""
    return [sys.executable, "-m", "omega21.server", *arguments]


# --- in the child ---


def start_reporting(engine: "Engine") -> None:
    """Tell the parent that this child answers, and from now on what it does."""
    _say("ready")
    loop = asyncio.get_running_loop()

    def beat() -> None:
        _say("alive")
        loop.call_later(HEARTBEAT_SECONDS, beat)

    def on_change(_run: str, _step: int | None = None) -> None:
        if engine.worker.steps_done:
            unsubscribe()
            _say("step")

    unsubscribe = engine.registry.subscribe(on_change)
    beat()


def _say(word: str) -> None:
    with contextlib.suppress(OSError):  # the parent is gone, and this child is about to follow
        os.write(1, f"{word}\n".encode())


def die_with_parent() -> None:
    """Have Linux end this process at once when its parent is killed.

    The end of standard input stops it too, everywhere, but takes the time of a step; meanwhile
    this process would hold the address and the data folder.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
