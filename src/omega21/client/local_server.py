"""A server on this machine for the duration of a command, as a child process.

It is never imported: the plain install has no torch.
"""

import queue
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from omega21.data.durable import make_private_folder, open_private
from omega21.language import _
from omega21.protocol.errors import NotOnThisServer, Unavailable
from omega21.server_process import ServerProcess, server_command

START_SECONDS: Final = 120.0
"""Start timeout: torch may be loaded from a cold disk."""

STOP_SECONDS: Final = 20.0
"""Time to finish a step before the child is killed."""

_NEEDED: Final = ("torch", "fastapi", "uvicorn")
_LISTENING: Final = "listening on "


class LocalServer:
    """A child process that serves `data_dir` on loopback; use it in a `with` block.

    `arguments` are passed to `python -m omega21.server`. The child's output goes to
    `log_path`.
    """

    def __init__(self, data_dir: Path, *, arguments: Sequence[str] = ()) -> None:
        self.log_path = data_dir / "server.log"
        self._data_dir = data_dir
        self._arguments = arguments
        self._process: ServerProcess | None = None
        self._address: str | None = None

    @property
    def address(self) -> str:
        """The server's address, once started."""
        if self._address is None:
            raise Unavailable(_("the local server has not been started"))
        return self._address

    def start(self) -> str:
        """Start it and return its address.

        Raises NotOnThisServer when the server's packages are missing, Unavailable with the end of
        its log when it does not come up.
        """
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if missing:
            raise NotOnThisServer(
                _("a server on this machine needs {missing}").format(missing=", ".join(missing)),
                hint=_(
                    "in your copy of the repository: pip install '.[server]' "
                    "(or give a server's address)"
                ),
            )
        make_private_folder(self._data_dir)
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with open_private(self.log_path, "ab") as log:
            self._process = ServerProcess(
                server_command(
                    [
                        *("--data-dir", str(self._data_dir), "--port", "0", "--stop-with-stdin"),
                        *self._arguments,
                    ]
                ),
                on_line=lines.put,
                environment={},  # it listens on loopback only, without a token
                log=log,
            )
        try:
            line = lines.get(timeout=START_SECONDS) or ""
        except queue.Empty:
            line = ""
        if not line.startswith(_LISTENING):
            self.stop()
            raise Unavailable(
                _("the local server did not start: {why}").format(why=self._last_words()),
                hint=_("its log is {path}").format(path=self.log_path),
            )
        self._address = line.removeprefix(_LISTENING).strip()
        return self._address

    def stop(self) -> None:
        """Stop it after its current step; everything it has trained is on disk on return."""
        process, self._process, self._address = self._process, None, None
        if process is not None:
            process.stop(STOP_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _last_words(self) -> str:
        text = self.log_path.read_text(encoding="utf-8", errors="replace").strip()
        return text.splitlines()[-1][:300] if text else _("it said nothing")
