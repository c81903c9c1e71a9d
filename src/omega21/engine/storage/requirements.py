"""Requirements of sources, installed into folders of their own beside what the server runs on.

    environments/<digest>/           the packages of one list of requirements, for this Python

pip resolves the list against what is installed, with every installed distribution pinned, and
only what is missing goes into the folder: torch, numpy and the server's own packages are never
moved, and never copied. pip's own configuration decides where packages come from.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from omega21.data.durable import make_private_folder, put_in_place
from omega21.language import _
from omega21.protocol.errors import InstallFailed, Unavailable
from omega21.protocol.printable import printable
from omega21.protocol.tasks.code import requirements_sha256

_WAIT_SECONDS: Final = 20.0
"""How long a request waits for an installation before it is told to ask again."""

_SECRET: Final = ("OMEGA21_", "NGROK_", "TUNNEL_")

logger = logging.getLogger(__name__)


@dataclass
class Requirements:
    """Installs lists of requirements, each once. Thread-safe."""

    folder: Path
    _running: "dict[str, Future[None]]" = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="omega21-pip")
    )

    def path(self, requirements: Sequence[str]) -> Path:
        """Return the folder of a list of requirements, installed or not."""
        return self.folder / requirements_sha256(requirements)

    def has(self, requirements: Sequence[str]) -> bool:
        """Whether a list is installed; an empty one is."""
        return not requirements or self.path(requirements).is_dir()

    def install(self, requirements: Sequence[str]) -> None:
        """Install a list, unless it is there. Raises InstallFailed with pip's last line.

        Raises Unavailable when it takes longer than some seconds: it goes on, and the next call
        waits for it.
        """
        if self.has(requirements):
            return
        name = self.path(requirements).name
        with self._lock:
            running = self._running.get(name)
            if running is None:
                running = self._running[name] = self._pool.submit(self._install, requirements)
        try:
            running.result(_WAIT_SECONDS)
        except TimeoutError as error:
            raise Unavailable(
                _("the server is installing {names}").format(names=", ".join(requirements)),
                retry_after=1.0,
            ) from error
        finally:
            if running.done():
                with self._lock:
                    self._running.pop(name, None)

    def close(self) -> None:
        """Start no further installation."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _install(self, requirements: Sequence[str]) -> None:
        place = self.path(requirements)
        if place.is_dir():
            return
        make_private_folder(self.folder)
        logger.warning("installing requirements of a source: %s", ", ".join(requirements))
        with tempfile.TemporaryDirectory(prefix=".pip-", dir=self.folder) as scratch:
            missing = _resolve(requirements, Path(scratch))
            fresh = Path(scratch) / "packages"
            fresh.mkdir()
            if missing:
                _pip(["install", "--no-deps", "--target", str(fresh), *missing])
            if not place.exists():
                put_in_place(fresh, place)
        logger.warning("installed: %s", ", ".join(missing) or "nothing was missing")


def _resolve(requirements: Sequence[str], scratch: Path) -> list[str]:
    """Return what is missing of the requirements and their own, each pinned."""
    constraints = scratch / "constraints.txt"
    pins = {
        found.metadata["Name"]: found.version for found in distributions() if found.metadata["Name"]
    }
    lines = "\n".join(f"{name}=={version}" for name, version in sorted(pins.items()))
    constraints.write_text(lines, encoding="utf-8")
    report = scratch / "report.json"
    arguments = ["install", "--dry-run", "--report", str(report)]
    _pip([*arguments, "--constraint", str(constraints), *requirements])
    installed: list[dict[str, Any]] = json.loads(report.read_bytes())["install"]
    return [_pinned(one) for one in installed]


def _pinned(item: dict[str, Any]) -> str:
    name, version = item["metadata"]["name"], item["metadata"]["version"]
    is_direct = item.get("is_direct", False)
    return f"{name} @ {item['download_info']['url']}" if is_direct else f"{name}=={version}"


def _pip(arguments: Sequence[str]) -> None:
    """Run pip without the server's secrets. Raises InstallFailed with its last line."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(_SECRET)}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--no-input",
            "--no-color",
            "--disable-pip-version-check",
            *arguments,
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    if done.returncode:
        logger.error("pip failed: %s", done.stdout)
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")]
        last = (errors or lines or [_("it said nothing")])[-1]
        raise InstallFailed(
            _("pip cannot install the requirements: {line}").format(
                line=printable(last.removeprefix("ERROR: "), most=300)
            )
        )
