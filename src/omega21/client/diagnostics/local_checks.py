"""The doctor's checks of this machine: Python, packages, disk."""

import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from omega21.client.diagnostics.checks import Found, disk_found
from omega21.language import _
from omega21.protocol.errors import NotOnThisServer


async def look_at_python() -> Found:
    """Check the Python version. Raises NotOnThisServer when it is too old."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a copy without its metadata can run anywhere
        raise NotOnThisServer(
            _("Python {version} is too old").format(version=platform.python_version()),
            hint=_("install Python 3.11 or newer"),
        )
    return Found(f"{platform.python_version()}, {platform.system()} {platform.machine()}")


async def look_at_packages() -> Found:
    """Check the packages that omega21 needs. Raises NotOnThisServer."""
    needed = [
        re.split(r"[^\w.-]", line, maxsplit=1)[0]
        for line in requires("omega21") or []
        if "extra ==" not in line
    ]
    versions = {name: _installed(name) for name in ["omega21", *needed, "torch"]}
    missing = [name for name in needed if versions[name] is None]
    if missing:
        raise NotOnThisServer(
            _("packages are missing: {names}").format(names=", ".join(missing)),
            hint=_("in your copy of the repository: pip install ."),
        )
    kind = _("client and server") if versions["torch"] else _("client")
    return Found(
        _("omega21 {version} ({kind})").format(version=versions["omega21"], kind=kind),
        figures=versions,
    )


def look_at_disk(folder: Path) -> Found:
    """Check the disk of the run folders. Raises StorageFull."""
    there = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(there).free
    return disk_found(free, where=str(there), advice=_("make room, or use --workdir"))


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
