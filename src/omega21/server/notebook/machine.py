"""The machine of a notebook: its local disk, free space, GPU."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from omega21.data.durable import make_private_folder
from omega21.language import _
from omega21.language.figures import decimal
from omega21.server.notebook.problem import CannotServe

LEAST_FREE_BYTES: Final = 2 * 10**9
"""Two checkpoints of 143 MB, the samples of a run, and the packages to install."""

_REMOTE_KINDS: Final = ("fuse", "nfs", "cifs", "smb", "9p")


def default_data_dir() -> Path:
    """Return a folder on the machine's own disk: Colab's, Kaggle's, or the current one."""
    for place in (Path("/content"), Path("/kaggle/working")):
        if place.is_dir():
            return place / "omega21-data"
    return Path("omega21-data").absolute()


def check_data_dir(data_dir: Path) -> None:
    """Create the folder; raise CannotServe if it is on a mounted drive, or the disk is full."""
    kind = _kind_of_mount(data_dir.absolute())
    if kind is not None and kind.startswith(_REMOTE_KINDS):
        raise CannotServe(
            _(
                "{folder} is on a mounted drive ({kind}), where locks and databases are not "
                "reliable; choose a folder on the machine's own disk, and the drive as the mirror"
            ).format(folder=data_dir, kind=kind)
        )
    make_private_folder(data_dir)
    free = shutil.disk_usage(data_dir).free
    if free < LEAST_FREE_BYTES:
        raise CannotServe(
            _(
                "{folder} has {free} GB free, and a server needs {least} GB; remove files, "
                "or choose a folder on another disk"
            ).format(
                folder=data_dir,
                free=decimal(free / 1e9, 1),
                least=decimal(LEAST_FREE_BYTES / 1e9, 0),
            )
        )


def _kind_of_mount(folder: Path) -> str | None:
    """Return the type of a folder's file system, None if it is unknown."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return None
    best, kind = "", None
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _device, raw_place, found, *_ = line.split(" ")
        place = raw_place.replace("\\040", " ")
        if folder.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, found
    return None if best == "/" else kind  # a container's root may be one too


def has_gpu() -> bool:
    """Whether there is a GPU that torch can use; detected without importing torch."""
    if sys.platform == "darwin":
        return True  # Metal, on every Mac of these years
    program = shutil.which("nvidia-smi") or shutil.which("rocm-smi")
    if program is None:
        return False
    return subprocess.run([program], check=False, capture_output=True).returncode == 0
