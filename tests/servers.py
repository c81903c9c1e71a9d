"""A real server, as a real process with its own port and data folder, for tests of both sides."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

LISTENING = "listening on "


class RunningServer:
    """A server process that answers at `address`.

    Leaving its `with` block ends it and prints its log, which pytest shows when the test fails.
    `restart` starts another one on the same data folder and port.
    """

    def __init__(
        self,
        data_dir: Path,
        arguments: tuple[str, ...],
        *,
        token: str | None,
        environment: Mapping[str, str],
    ) -> None:
        self.data_dir = data_dir
        self.token = token
        self.environment = environment
        self.log_path = data_dir.with_name(f"{data_dir.name}.log")
        self._arguments = arguments
        self._start(port=0)

    def _start(self, port: int) -> None:
        environment = {name: text for name, text in os.environ.items() if name != "OMEGA21_TOKEN"}
        environment.update(self.environment)
        if self.token is not None:
            environment["OMEGA21_TOKEN"] = self.token
        command = [sys.executable, "-m", "omega21.server", "--data-dir", str(self.data_dir)]
        command += ["--port", str(port), "--stop-with-stdin", *self._arguments]
        with self.log_path.open("ab") as log:
            # The pipe to its standard input ends with this process, and the server with the pipe.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(LISTENING):
            self.process.kill()
            self._reap()
            raise AssertionError(f"the server did not start: {line!r}\n{self.log}")
        self.address = line.removeprefix(LISTENING).strip()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.address.rpartition(":")[2])

    @property
    def log(self) -> str:
        """All that it wrote on standard error so far, over restarts too."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """End it as a person would, and return its exit status."""
        if self.process.poll() is None:
            if sys.platform == "win32":
                self._close_stdin()
            else:
                self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def kill(self) -> int:
        """End all of it without giving it a chance to say goodbye."""
        child = self._open_child()
        self.process.kill()
        status = self._reap()
        _wait_until_gone(child)
        return status

    def kill_child(self) -> None:
        """Kill the process that does the work; its parent starts another one."""
        child = self._open_child()
        signal.pidfd_send_signal(child, signal.SIGKILL)
        _wait_until_gone(child)

    def kill_executors(self) -> int:
        """Kill the processes that compute, if there are any at this moment; how many."""
        killed = 0
        for pid in self.executor_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        return killed

    def executor_pids(self) -> list[int]:
        """The processes that compute: the children of that which they are forked from."""
        with suppress(FileNotFoundError, ProcessLookupError):  # one of them has just ended
            fork_servers = _children(self.child_pid())
            return [pid for parent in fork_servers for pid in _children(parent)]
        return []

    def child_pid(self) -> int:
        """The process that serves; between two of them there is none for a moment."""
        while True:
            if children := _children(self.process.pid):
                return children[0]

    def _open_child(self) -> int:
        return os.pidfd_open(self.child_pid())

    def restart(self) -> None:
        """Start it again, after `stop` or `kill`, on the same data folder and port."""
        self._start(port=self.port)

    def _close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _reap(self) -> int:
        try:
            status = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._close_stdin()
            assert self.process.stdout is not None
            self.process.stdout.close()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            sys.stderr.write(f"--- log of the server at {self.address}\n{self.log}")


def _children(pid: int) -> list[int]:
    """The processes that any thread of a process has started."""
    lists = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for one in lists for child in one.read_text(encoding="ascii").split()]


def _wait_until_gone(process: int) -> None:
    """Wait for the end of a process, given by a descriptor, and close that."""
    try:
        ended, _, _ = select.select([process], [], [], 60)
        assert ended, "a killed server process has not ended in a minute"
    finally:
        os.close(process)


def start_server(
    data_dir: Path,
    *arguments: str,
    token: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> RunningServer:
    """Start a server on a free port and wait until it listens.

    `arguments` are more options of `python -m omega21.server`, `environment` more variables. Use it
    in a `with` statement.
    """
    return RunningServer(data_dir, arguments, token=token, environment=environment or {})
