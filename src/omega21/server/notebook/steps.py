"""The server of the cell, in steps: prepare, choose a mirror, start, watch, stop."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from omega21.language import _
from omega21.protocol.printable import printable
from omega21.server.notebook.cell import keep_running, prepare, start
from omega21.server.notebook.charts import watch_run
from omega21.server.notebook.problem import CannotServe
from omega21.server.notebook.process import NotebookServer

DRIVE: Final = Path("/content/drive")
_MIRROR_ON_DRIVE: Final = DRIVE / "MyDrive" / "omega21"


class Notebook:
    """A server that a notebook starts, watches and stops, in a cell each; errors are one line."""

    def __init__(self, **given: Any) -> None:
        """Prepare, `given` as for `omega21.server.notebook.cell.prepare`."""
        self._server: NotebookServer | None = None
        self._settings = _said(lambda: prepare(**given))

    def choose_mirror(self, folder: str) -> None:
        """Copy checkpoints to `folder` from the next start on; `drive` mounts Google Drive."""
        if self._settings is None:
            return
        place = _said(lambda: _mirror(folder))
        self._settings = replace(self._settings, mirror=place)
        if place is not None:
            print(_("checkpoints are copied to {folder}").format(folder=place))  # noqa: T201

    def start(self) -> None:
        """Start the server and print the command to copy; a running one is not changed."""
        if self._server is not None and self._server.is_running:
            print(_("the server is already running"))  # noqa: T201
        elif (settings := self._settings) is not None:
            self._server = _said(lambda: start(settings))

    def watch(self) -> None:
        """Draw the curves of the training run until interrupted; the server keeps running."""
        if (server := self._running()) is not None:
            _said(lambda: watch_run(server))

    def keep_running(self) -> None:
        """Show the status line until interrupted, and stop the server then."""
        if (server := self._running()) is not None:
            _said(lambda: keep_running(server))

    def stop(self) -> None:
        """Stop the server cleanly."""
        if (server := self._running()) is not None:
            server.stop()
            print(_("stopped"))  # noqa: T201

    def _running(self) -> NotebookServer | None:
        if self._server is None or not self._server.is_running:
            print(_("the server is not running"))  # noqa: T201
            return None
        return self._server


def _said(work: "Callable[[], Any]") -> Any:
    """Return the result of `work`; on an error print one line and return None."""
    try:
        return work()
    except CannotServe as problem:
        print(f"error: {printable(str(problem))}", file=sys.stderr)  # noqa: T201
        return None


def _mirror(folder: str) -> Path | None:
    if not folder:
        return None
    if folder != "drive":
        return Path(folder).expanduser()
    if "google.colab" not in sys.modules:
        raise CannotServe(
            _("Google Drive can be mounted in Colab only; give the path of a folder instead")
        )
    drive: Any = importlib.import_module("google.colab.drive")
    drive.mount(str(DRIVE))
    return _MIRROR_ON_DRIVE
