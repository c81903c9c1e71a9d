"""Starts processes that compute: forked from one with torch loaded, where the system allows it."""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Protocol

from omega21.executors.base import ExecutorDied
from omega21.language import _

START_SECONDS: Final = 300.0
"""What a process may take to start: torch is large, and some disks are slow."""

_PASSED_ON: Final = (
    *("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_", "TZ", "TMPDIR", "TEMP", "TMP"),
    *("SYSTEMROOT", "VIRTUAL_ENV", "PYTHONHOME", "CUDA_", "CUBLAS_", "NVIDIA_", "HIP_", "ROCR_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES", "TORCH", "PYTORCH_", "XLA_"),
    *("TPU_", "PJRT_", "COVERAGE_PROCESS_"),
)
"""Names, or their beginnings, in the environment that a model sees: no token, no key."""

_MOST_BYTES: Final = 64 * 1024
_PREFIX: Final = "omega21-executors-"


class Process(Protocol):
    """A process that was started, and its pipes."""

    pid: int
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""

    def wait(self) -> int:
        """Wait for its end, and end what it started; return its exit status."""

    def kill(self) -> None:
        """Send SIGKILL to it and to what it started."""


class Launcher:
    """Starts processes, each in a folder of its own, with an environment that has no secret.

    `folder` is for their folders; what a launcher leaves that was killed, the next one removes.
    With `forks`, they are forked from a process that has loaded torch; it is started again when it
    has ended. Without, each loads torch itself.
    """

    def __init__(self, *, forks: bool = sys.platform == "linux") -> None:
        self._forks = forks
        _remove_left()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        # The system ends a process with the thread that started it, not with its whole process.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="omega21-launcher")
        self._fork_server: _ForkServer | None = None
        self._guard = threading.Lock()
        self._is_closed = False

    def make_folder(self) -> Path:
        """Make a folder for a process; a model may have removed those of all."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder))

    def launch(self, folder: Path) -> Process:
        """Start a process. Raises ExecutorDied where what it is forked from ends."""
        if not self._forks:
            return _Spawned(folder)
        return self._starter.submit(self._fork, folder).result()

    def _fork(self, folder: Path) -> Process:
        with self._guard:
            if self._is_closed:
                raise ExecutorDied(_("the server is stopping"), "")
            if self._fork_server is None or not self._fork_server.is_alive:
                if self._fork_server is not None:
                    self._fork_server.close()
                self._fork_server = _ForkServer(self.folder)
            fork_server = self._fork_server
        return fork_server.fork(folder)

    def close(self) -> None:
        """End what processes are forked from, and with it those that still run."""
        with self._guard:
            self._is_closed = True
            if self._fork_server is not None:
                self._fork_server.close()
        self._starter.shutdown(cancel_futures=True)

    def remove_folder(self) -> None:
        """Remove the folders of all processes, once these have ended."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _Spawned:
    """See `Process`: a process of its own from the start."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "omega21.executors.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(folder),
            cwd=folder,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self.pid = self._process.pid
        self.stdin, self.stdout = self._process.stdin, self._process.stdout
        self.stderr = self._process.stderr

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        status = self._process.wait()
        _kill_group(self.pid)
        return status

    def kill(self) -> None:
        if self._process.poll() is None:
            _kill_group(self.pid)
            self._process.kill()


class _Forked:
    """See `Process`: a process whose parent is the fork server."""

    def __init__(self, pid: int, pipes: tuple[IO[bytes], IO[bytes], IO[bytes]]) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = pipes
        self._status: int | None = None
        self._has_ended = threading.Event()
        self._guard = threading.Lock()

    def poll(self) -> int | None:
        return self._status

    def wait(self) -> int:
        self._has_ended.wait()
        assert self._status is not None
        return self._status

    def kill(self) -> None:
        with self._guard:  # its id is its own until its end is noted
            if self._status is None:
                _kill_group(self.pid)
                with suppress(ProcessLookupError):  # it may have no group of its own yet
                    os.kill(self.pid, signal.SIGKILL)

    def note_end(self, status: int) -> None:
        """Note that it has ended; what it started is ended too."""
        with self._guard:
            _kill_group(self.pid)
            self._status = status
        self._has_ended.set()


class _ForkServer:
    """The process that others are forked from, and the socket to it. Forks one at a time."""

    def __init__(self, folder: Path) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "omega21.executors.fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a process that cannot load torch tells why itself
                env=_environment(folder),
                cwd=folder,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        self._started: queue.SimpleQueue[_Forked | None] = queue.SimpleQueue()
        self._processes: dict[int, _Forked] = {}  # of the reading thread
        self._pipes: tuple[IO[bytes], IO[bytes], IO[bytes]] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, folder: Path) -> _Forked:
        ours, theirs = _pipes()
        try:
            self._pipes = ours
            request = json.dumps({"folder": str(folder)}).encode()
            socket.send_fds(self._control, [request], theirs)
            process = self._started.get(timeout=START_SECONDS)
        except (OSError, queue.Empty):
            process = None
        finally:
            for pipe in theirs:
                os.close(pipe)
        if process is None:
            for stream in ours:
                stream.close()
            self._process.kill()
            raise ExecutorDied(how_it_ended(self._process.wait()), "")
        return process

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(5.0)
        self._control.close()

    def _read(self) -> None:
        with suppress(OSError):  # closed
            while data := self._control.recv(_MOST_BYTES):
                message = json.loads(data)
                if "pid" in message:
                    self._note_start(message["pid"])
                else:
                    self._note_end(message["ended"], message["status"])
        for process in tuple(self._processes.values()):  # they end with it
            process.note_end(-signal.SIGKILL)
        self._started.put(None)

    def _note_start(self, pid: int) -> None:
        assert self._pipes is not None
        process = self._processes[pid] = _Forked(pid, self._pipes)
        self._started.put(process)

    def _note_end(self, pid: int, status: int) -> None:
        self._processes.pop(pid).note_end(status)
        self._control.send(json.dumps({"reap": pid}).encode())


def _remove_left() -> None:
    """Remove the folders of launchers whose process has ended without doing so."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)  # another user's stays


def _is_alive(pid: int) -> bool:
    if os.name != "posix":  # there is no asking without ending it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _pipes() -> tuple[tuple[IO[bytes], IO[bytes], IO[bytes]], list[int]]:
    """Return our ends of standard input, output and error, and theirs."""
    requests, answers, output = os.pipe(), os.pipe(), os.pipe()
    ours = (os.fdopen(requests[1], "wb"), os.fdopen(answers[0], "rb"), os.fdopen(output[0], "rb"))
    return ours, [requests[0], answers[1], output[1]]


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nothing of it is left
        os.killpg(pid, signal.SIGKILL)


def how_it_ended(status: int) -> str:
    """Describe the exit status of a process, negative for a signal."""
    if status < 0:
        return signal.Signals(-status).name
    return _("exit status {status}").format(status=status)


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if name.upper().startswith(_PASSED_ON)}
    return {
        **kept,
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONUNBUFFERED": "1",
    }
