"""The parent of the server process: holds the listening socket, and replaces a child that dies.

The parent holds the socket, so while a child is replaced the system accepts connections, which
wait; none is refused. The child reports on a pipe, one word a line:

    ready    it answers
    step     it has trained a step: a crash after this is a new one
    alive    every few seconds, from the loop that answers requests
    code D   it has accepted the source with digest D

A child without a heartbeat for a while is killed. A child that ends is restarted, with a backoff
that grows to at most 30 s while children die without training a step. Only if no child has ever
answered is none restarted: the user who started the server is present and can fix the cause, which
would prevent the next start too. Later, a cause such as a full disk or a missing device may be
temporary, and nobody may be present.

The child reads its end of a pipe from the parent and stops when that closes, so it never outlives
its parent, however the parent ends.
"""

import logging
import queue
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from socket import socket

from omega21.server.startup import CODE_WORD
from omega21.server_process import ServerProcess

_SILENCE_SECONDS = 60.0
_START_SECONDS = 300.0
_STOP_SECONDS = 10.0
_LONGEST_PAUSE = 30.0
_FIRST_PAUSE = 0.5

logger = logging.getLogger(__name__)


@dataclass
class Supervisor:
    """Runs `command` with the socket's descriptor appended, until told to stop.

    `environment` has what must not be in a command line: the token.

    `on_ready` is called when the first child answers, `on_code` with the digest of each source that
    a child accepts.
    """

    sock: socket
    command: Sequence[str]
    environment: Mapping[str, str]
    on_ready: Callable[[], None]
    on_code: Callable[[str], None] = lambda _sha256: None
    restarts: int = 0
    last_death: str | None = None
    _events: "queue.SimpleQueue[str | None]" = field(default_factory=queue.SimpleQueue)
    _stopping: bool = False
    _pause: float = 0.0
    _was_ready: bool = False

    def stop(self) -> None:
        """Stop the child cleanly, and then `run`; for signal handlers and threads."""
        self._stopping = True
        self._events.put("stop")

    def run(self) -> int:
        """Keep a child running until told to stop; return 0 then.

        Return the first child's status if it has never answered: negative if a signal ended it.
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
        """Run one child to its end; return its status."""
        descriptor = self.sock.fileno()
        child = ServerProcess(
            [*self.command, "--socket-fd", str(descriptor)],
            on_line=self._events.put,
            environment={
                **self.environment,
                "OMEGA21_RESTARTS": str(self.restarts),
                "OMEGA21_LAST_DEATH": self.last_death or "",
            },
            pass_fds=[descriptor],
        )
        logger.debug("server process %d started", child.pid)
        self._watch(child)
        child.stop(_STOP_SECONDS)  # it has ended; its standard input is closed
        assert child.status is not None
        return child.status

    def _watch(self, child: ServerProcess) -> None:
        silence = _START_SECONDS
        while True:
            try:
                word = self._events.get(timeout=silence)
            except queue.Empty:
                logger.warning(
                    "the server process has not reported for %d s and is killed", silence
                )
                child.kill()
                silence = _STOP_SECONDS
                continue
            if word is None:
                return
            silence = _SILENCE_SECONDS
            if word == "stop":
                if not child.stop(_STOP_SECONDS, terminate=True):
                    logger.warning(
                        "the server process did not stop in %d s and was killed", _STOP_SECONDS
                    )
                return
            self._handle(word)

    def _handle(self, word: str) -> None:
        if word == "step":
            self._pause = 0.0
        elif word == "ready" and not self._was_ready:
            self._was_ready = True
            self.on_ready()
        elif word.startswith(CODE_WORD):
            self.on_code(word.removeprefix(CODE_WORD))

    def _wait_before_restart(self) -> bool:
        """Wait, longer each time without a trained step; False when stopped."""
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
    """Describe how a process ended, by its status."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"
