"""The server as a child process of a notebook.

It stops when its standard input ends, so it never outlives the notebook's process.
"""

import json
import os
import queue
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from omega21.data.durable import open_private
from omega21.language import _
from omega21.server.notebook.problem import CannotServe
from omega21.server_process import ServerProcess, server_command

LISTENING: Final = "listening on "
_ERROR: Final = re.compile(r"(?:python -m omega21\.server: )?error: (.+)")
"""Patterns of a server's last line; argparse's, for an invalid option, has the program's name."""

_STOP_SECONDS: Final = 20.0
_ASK_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The settings of a notebook's server."""

    data_dir: Path
    token: str
    tunnel: str = "auto"
    authtoken: str | None = None
    cloudflared: str | None = None
    mirror: Path | None = None
    port: int = 0
    allow_code: str = ""
    allow_install: bool = False
    model: str | None = None

    def arguments(self) -> list[str]:
        """Return the command-line options; no token is among them."""
        options = {
            "--data-dir": self.data_dir,
            "--port": self.port,
            "--tunnel": self.tunnel,
            "--cloudflared": self.cloudflared,
            "--mirror": self.mirror,
            "--allow-code": self.allow_code or None,
            "--model": self.model,
        }
        words = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
        return words + ["--allow-install"] * self.allow_install

    def environment(self) -> dict[str, str]:
        """Return what the process's environment has more: this package first, and the tokens."""
        package = str(Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        given = {"PYTHONPATH": path, "OMEGA21_TOKEN": self.token}
        if self.authtoken:
            given["NGROK_AUTHTOKEN"] = self.authtoken
        return given


class NotebookServer:
    """A server that listens at `address`. Use it in a `with` block, or call `stop`."""

    def __init__(self, settings: ServerSettings) -> None:
        """Start it; return when it listens. Raises CannotServe with its last line."""
        self.settings = settings
        self.log = settings.data_dir / "notebook.log"
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with open_private(self.log, "ab") as log:
            self._log_from = log.tell()
            self._process = ServerProcess(
                server_command(["--stop-with-stdin", *settings.arguments()]),
                on_line=self._lines.put,
                environment=settings.environment(),
                log=log,
                start_new_session=True,  # an interrupt of the notebook must not reach the server
            )
        self.address = self._first_line()

    def _first_line(self) -> str:
        try:
            line = self._lines.get() or ""
        except KeyboardInterrupt:
            self.stop()
            raise
        if not line.startswith(LISTENING):
            self.stop()
            raise CannotServe(self.last_error())
        return line.removeprefix(LISTENING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether the process is running."""
        return self._process.status is None

    def news(self, *, wait: float) -> Iterator[str]:
        """Yield its new lines, waiting for the first one for some seconds."""
        try:
            line = self._lines.get(timeout=wait)
            while line is not None:
                yield line
                line = self._lines.get_nowait()
        except queue.Empty:
            return

    def ask(self, path: str) -> Any:
        """Return the reply to a GET, None while it does not answer."""
        headers = {"Authorization": f"Bearer {self.settings.token}"}
        request = urllib.request.Request(f"{self.address}{path}", headers=headers)  # noqa: S310
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=_ASK_SECONDS) as reply:
                return json.load(reply)
        except (OSError, ValueError):  # between two server processes, or at its end
            return None

    def stop(self) -> None:
        """Stop it cleanly, after the current step and a checkpoint."""
        self._process.stop(_STOP_SECONDS)

    def last_error(self) -> str:
        """Return the process's last line."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            lines = log.read().decode(errors="replace").splitlines()
        errors = [found[1] for line in lines if (found := _ERROR.fullmatch(line))]
        if errors:
            return errors[-1]
        return _("the server ended with status {status}; its log is {log}").format(
            status=self._process.status, log=self.log
        )
