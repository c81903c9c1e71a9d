"""A server as a child process: `python -m omega21.server`, which ends with standard input.

It never outlives the process that started it, on any platform, however that one ends. The client
starts one for the duration of a command; so do the notebook and a server's parent.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import IO

from omega21.language import current_locale


def server_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a server with these options."""
    return [sys.executable, "-m", "omega21.server", *arguments]


class ServerProcess:
    """A child process, started by the constructor.

    `on_line` is called from a thread of its own with each line of the child's standard output, and
    with None when it has ended. `environment` is added to this process's, without the token:
    if the child needs the token, `environment` has it. `log` takes its standard error.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        on_line: Callable[[str | None], None],
        environment: Mapping[str, str],
        log: IO[bytes] | None = None,
        pass_fds: Collection[int] = (),
        start_new_session: bool = False,
    ) -> None:
        inherited = {name: text for name, text in os.environ.items() if name != "OMEGA21_TOKEN"}
        self._on_line = on_line
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**inherited, "LANGUAGE": current_locale(), **environment},
            pass_fds=pass_fds,
            start_new_session=start_new_session,
        )
        threading.Thread(target=self._read_lines, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative where a signal ended it; None while it runs."""
        return self._process.poll()

    def stop(self, seconds: float, *, terminate: bool = False) -> bool:
        """Request its end, and wait; one that takes longer is killed, and False returned.

        At the end of its standard input it ends after the current step; with `terminate` also while
        it is starting.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        if terminate:
            self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
            return False
        return True

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._on_line(line.decode(errors="replace").strip())
        self._process.wait()
        self._on_line(None)
