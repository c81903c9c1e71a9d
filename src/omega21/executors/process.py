"""A process that computes, as the engine sees it: pipes, its output, and how it ended."""

import os
import queue
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from omega21.executors.base import (
    Arrays,
    DeviceFailed,
    DeviceMemoryExhausted,
    ExecutorDied,
    StepDropped,
)
from omega21.executors.channel import Channel, Head
from omega21.executors.launcher import Launcher, how_it_ended
from omega21.executors.options import DeviceOptions
from omega21.language import LazyString, _
from omega21.protocol.errors import InvalidRequest, TaskFailed, error_classes

_TASK_ERRORS: Final = {cls.code: cls for cls in error_classes(TaskFailed)}
_LAST_LINES: Final = 20
_MOST_READ: Final = 64 * 1024
_MOST_LINE: Final = 2000

_Message = tuple[Head, Arrays] | None  # None: the process has ended


class ExecutorProcess:
    """A process that computes, and the pipes to it; one thread sends and receives.

    `on_output` is called with each chunk of lines that the process writes, from a thread of its
    own. Raises ExecutorDied where it cannot be started.
    """

    def __init__(self, launcher: Launcher, options: DeviceOptions) -> None:
        self.on_output: Callable[[bytes], None] = lambda _lines: None
        self._folder = launcher.make_folder()
        try:
            self._process = launcher.launch(self._folder)
        except ExecutorDied:
            shutil.rmtree(self._folder)
            raise
        self._channel = Channel(self._process.stdout, self._process.stdin)
        self._replies: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._output = threading.Thread(
            target=self._read_output, args=(self._process.stderr,), daemon=True
        )
        self._threads = [
            threading.Thread(target=self._receive, daemon=True),
            threading.Thread(target=self._wait, daemon=True),
            self._output,
        ]
        for thread in self._threads:
            thread.start()
        folder = options.code_folder
        fields = {name: asdict(options)[name] for name in ("device", "precision", "threads")}
        self.send({**fields, "code_folder": folder and str(folder.absolute())})

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def send(self, head: Head, arrays: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        """Send a request. Raises ExecutorDied."""
        try:
            self._channel.send(head, arrays)
        except (OSError, ValueError) as error:  # ValueError: closed
            raise self._death() from error

    def receive(self, *, timeout: float) -> tuple[Head, Arrays]:
        """Wait `timeout` seconds for the next reply. Raises ExecutorDied, or the reply's error."""
        try:
            message = self._replies.get(timeout=timeout)
        except queue.Empty:
            self.kill()
            how = _("no answer within {seconds} s").format(seconds=f"{timeout:g}")
            raise ExecutorDied(how, self.last_lines()) from None
        if message is None:
            raise self._death()
        head, arrays = message
        _raise_error(head)
        return head, arrays

    def last_lines(self) -> str:
        """Return the last lines that the process wrote."""
        return "\n".join(self._last_lines)

    def kill(self) -> None:
        """End the process, and what it started."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process, and remove its folder."""
        self.kill()
        for thread in self._threads:
            thread.join(5.0)
        self._channel.close()
        shutil.rmtree(self._folder, ignore_errors=True)  # the model may have removed it itself

    def _death(self) -> ExecutorDied:
        self.kill()
        self._output.join(1.0)  # the last lines are on their way
        return ExecutorDied(how_it_ended(self._process.wait()), self.last_lines())

    def _receive(self) -> None:
        try:
            while True:
                self._replies.put(self._channel.receive())
        except (EOFError, OSError, ValueError):  # ValueError: closed meanwhile, or not ours
            self._replies.put(None)

    def _wait(self) -> None:
        """Notice the end of the process where something that it started holds its pipes open."""
        self._process.wait()
        self._replies.put(None)

    def _read_output(self, stream: IO[bytes]) -> None:
        rest = b""
        descriptor = stream.fileno()
        while chunk := os.read(descriptor, _MOST_READ):
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            if len(rest) > _MOST_LINE:
                lines, newline, rest = lines + newline + rest, b"\n", b""
            if newline:
                self._tell(lines)
        if rest:
            self._tell(rest)
        stream.close()

    def _tell(self, lines: bytes) -> None:
        last = lines[-_LAST_LINES * _MOST_LINE :].split(b"\n")[-_LAST_LINES:]
        self._last_lines.extend(line[:_MOST_LINE].decode("utf-8", "replace") for line in last)
        self.on_output(lines)


def _raise_error(head: Head) -> None:
    """Raise what the executor raised; its texts are translated again where they are read."""
    hint = LazyString.of_parts(head.get("hint", ""))
    message = LazyString.of_parts(head.get("message", ""))
    match head.get("error"):
        case None:
            return
        case "memory":
            raise DeviceMemoryExhausted(message)
        case "device":
            raise DeviceFailed(message)
        case "task":
            raise _TASK_ERRORS[head["code"]](message, hint=hint)
        case "mismatch":
            raise RuntimeError(message)
        case "dropped":
            raise StepDropped
        case "import":
            raise ImportError(message)
        case "start":
            raise RuntimeError(message)
        case "absent":
            raise InvalidRequest(message, hint=hint)
        case other:
            raise ValueError(message or str(other))
