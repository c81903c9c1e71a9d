"""The process that others are forked from: `python -m omega21.executors.fork_server FD`.

It loads torch once and computes nothing: a process that is forked from it needs some milliseconds
to start instead of seconds. It has one thread, and no device is initialised in it, so that a fork
of it is sound. Linux only.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, Final

from omega21.executors import child
from omega21.executors.malloc import keep_freed_memory
from omega21.executors.openmp import bound_spinning

_MOST_BYTES: Final = 64 * 1024
_PIPES: Final = 3  # standard input, output and error of the process to start


def main() -> None:
    """Fork a process for each request, and tell of each that ends, until the parent is gone."""
    child.end_with_parent()
    control = socket.socket(fileno=int(sys.argv[1]))
    bound_spinning()
    keep_freed_memory()
    with suppress(Exception):  # each process tries again, and tells why it cannot
        child.load()
    gc.collect()
    gc.freeze()  # so that no collection copies the pages that processes share
    _ForkServer(control).serve()


class _ForkServer:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: set[int] = set()
        self._wakes, self._wake = socket.socketpair()
        self._wake.settimeout(0)
        signal.set_wakeup_fd(self._wake.fileno())
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._control, self._wakes], [], [])
            if self._wakes in ready:
                self._wakes.recv(4096)
                self._tell_of_ended()
            if self._control in ready:
                data, pipes, _flags, _address = socket.recv_fds(self._control, _MOST_BYTES, _PIPES)
                if not data:
                    return
                self._answer(json.loads(data), pipes)

    def _answer(self, request: dict[str, Any], pipes: list[int]) -> None:
        if "reap" in request:
            os.waitpid(request["reap"], 0)
            return
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            self._become(request["folder"], pipes, parent=parent)
        self._pids.add(pid)
        for pipe in pipes:
            os.close(pipe)
        self._send({"pid": pid})
        self._tell_of_ended()  # it may have ended before it was known

    def _tell_of_ended(self) -> None:
        """Tell of ended processes; each keeps its id until the parent has taken notice of it."""
        for pid in tuple(self._pids):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                self._pids.discard(pid)
                is_exit = ended.si_code == os.CLD_EXITED
                self._send({"ended": pid, "status": ended.si_status * (1 if is_exit else -1)})

    def _send(self, message: dict[str, int]) -> None:
        with suppress(BrokenPipeError):  # the parent is going; the next read ends this process too
            self._control.send(json.dumps(message).encode())

    def _become(self, folder: str, pipes: list[int], *, parent: int) -> None:
        """Be the new process; does not return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            for number, pipe in enumerate(pipes):
                os.dup2(pipe, number)
                os.close(pipe)
            for own in (self._control, self._wakes, self._wake):
                own.close()
            os.chdir(folder)
            os.environ["HOME"] = folder
            child.end_with_parent()
            if os.getppid() == parent:  # it may have ended before that
                child.main()
            status = 0
        except SystemExit as error:  # of a model
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:  # noqa: BLE001 - the process ends here, and its output says why
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


if __name__ == "__main__":
    main()
