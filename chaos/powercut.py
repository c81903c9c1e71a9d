"""`python -m chaos.powercut`: cuts the power right after a command has said that a file is written.

A file system of its own in an image on a loop device, which writes nothing by itself for minutes.
The cut is ext4's own shutdown without a flush: what was not synced, names included, is gone, and
the journal is replayed at the next mount as after a real one. Needs root and loop devices.
"""

import fcntl
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors.numpy import load

from omega21.client.run_reader import open_stored_run
from omega21.client.store.archive import import_run
from omega21.client.store.checkpoints import file_sha256, sealed_sha256
from omega21.data.sources.files import open_data
from tests.servers import start_server

IMAGE_BYTES: Final = 256 * 2**20
_SHUTDOWN: Final = 0x8004587D  # EXT4_IOC_SHUTDOWN
_WITHOUT_A_FLUSH: Final = struct.pack("I", 2)


class PowerDisk:
    """A mounted file system whose power can be cut."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder = folder
        self._device = device

    def cut(self) -> None:
        """Lose what was not synced, and mount what is left."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_A_FLUSH)
        finally:
            os.close(descriptor)
        self.unmount()
        self.mount()

    def mount(self) -> None:
        """Mount it; its journal is committed when it is asked to, not from time to time."""
        _system("mount", "-t", "ext4", "-o", "commit=600", self._device, str(self.folder))

    def unmount(self) -> None:
        """Unmount it."""
        _system("umount", str(self.folder))


@contextmanager
def power_disk(scratch: Path) -> Iterator[PowerDisk]:
    """Make a disk and mount it; raises OSError where one may not, or there is no loop device."""
    image, folder = scratch / "disk.img", scratch / "disk"
    folder.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    _system("mkfs.ext4", "-q", str(image))
    device = _system("losetup", "--find", "--show", str(image)).strip()
    try:
        disk = PowerDisk(folder, device)
        disk.mount()
        try:
            yield disk
        finally:
            disk.unmount()
    finally:
        _system("losetup", "--detach", device)


def _system(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        raise OSError(f"{' '.join(command)}: {error.stderr.strip()}") from error


@dataclass(frozen=True, slots=True)
class Case:
    """A command that says 'written', what it leaves, and how that is seen to be whole."""

    name: str
    command: tuple[str, ...]
    left: str
    is_whole: Callable[[Path], object]
    needs_server: bool = False


def _results_are_there(folder: Path) -> None:
    with open_stored_run(folder.name, folder.parent) as stored:
        assert stored.results.last_step == sum(segment.steps for segment in stored.segments)


def _ends_with(end: bytes) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        assert path.read_bytes().rstrip().endswith(end), f"{path} is cut short"

    return check


def _can_be_imported(path: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        _results_are_there(import_run(path, workdir=Path(scratch)))


def _is_sound(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def _fits_its_seal(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    assert file_sha256(path) == sealed_sha256(path)


def _is_safetensors(path: Path) -> None:
    assert load(path.read_bytes())


def _has_rows(count: int) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        assert len(path.read_text().splitlines()) == count

    return check


RUN: Final = "cut"
STEPS: Final = 2
_OF_RUN: Final = (RUN, "--workdir", "{kept}")
CASES: Final = (
    Case("generate .npz", ("generate", "x.npz", "--samples", "300"), "x.npz", open_data),
    Case(
        "generate .safetensors",
        ("generate", "x.safetensors", "--samples", "300"),
        "x.safetensors",
        open_data,
    ),
    Case("runs export", ("runs", "export", *_OF_RUN, "-o", "r.zip"), "r.zip", _can_be_imported),
    Case(
        "runs import",
        ("runs", "import", "{archive}", "--workdir", "a/b"),
        f"a/b/{RUN}",
        _results_are_there,
    ),
    Case("report", ("report", *_OF_RUN, "-o", "r.html"), "r.html", _ends_with(b"</html>")),
    Case(
        "export results",
        ("export", "results", *_OF_RUN, "-o", "r.csv"),
        "r.csv",
        _has_rows(STEPS + 1),
    ),
    Case(
        "export weights",
        ("export", "weights", *_OF_RUN, "--url", "{url}", "-o", "w.safetensors"),
        "w.safetensors",
        _is_safetensors,
        needs_server=True,
    ),
    Case(
        "checkpoint pull",
        ("checkpoint", "pull", RUN, "--workdir", "here", "--url", "{url}"),
        f"here/{RUN}/checkpoint",
        _fits_its_seal,
        needs_server=True,
    ),
    Case(
        "checkpoint pull -o",
        ("checkpoint", "pull", RUN, "--url", "{url}", "-o", "c.safetensors"),
        "c.safetensors",
        _is_safetensors,
        needs_server=True,
    ),
    Case(
        "predict",
        ("predict", RUN, "{data}", "--url", "{url}", "-o", "p.safetensors"),
        "p.safetensors",
        _is_safetensors,
        needs_server=True,
    ),
    Case(
        "train",
        (
            *("train", "{url}", "--run", "trained", "--workdir", "here", "--samples", "16"),
            *("--batch-size", "8", "--validation", "0"),
        ),
        "here/trained",
        _results_are_there,
        needs_server=True,
    ),
    Case(
        "doctor --bundle",
        ("doctor", "{url}", "--bundle", "-o", "b.zip"),
        "b.zip",
        _is_sound,
        needs_server=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Around:
    """What the cases use that is on another disk: a run, its archive, samples, a server."""

    kept: Path
    archive: Path
    data: Path
    url: str = ""

    def command(self, case: Case) -> list[str]:
        """Fill in a case's command."""
        places: Mapping[str, object] = {
            "kept": self.kept,
            "archive": self.archive,
            "data": self.data,
            "url": self.url,
        }
        return [part.format(**places) for part in case.command]


def prepare(scratch: Path, url: str) -> Around:
    """Train a run, and write its archive and a file of samples."""
    around = Around(scratch / "runs", scratch / "cut.zip", scratch / "data.npz", url)
    for arguments in (
        (
            *("train", url, "--run", RUN, "--workdir", str(around.kept), "--samples", "16"),
            *("--batch-size", "8", "--validation", "0", "--no-report"),
        ),
        ("runs", "export", RUN, "--workdir", str(around.kept), "-o", str(around.archive)),
        ("generate", str(around.data), "--samples", "8"),
    ):
        omega21(arguments, scratch)
    return around


def omega21(arguments: Sequence[str], folder: Path) -> str:
    """Run a command in a folder; raises OSError where it fails."""
    return _system("env", "-C", str(folder), sys.executable, "-m", "omega21", *arguments)


def survives(case: Case, around: Around, disk: PowerDisk) -> str | None:
    """Give a command, cut the power, and look; return what is wrong, None when all is whole."""
    for place in sorted(disk.folder.iterdir()):
        if place.name != "lost+found":
            _system("rm", "-r", str(place))
    if case.left.startswith(f"here/{RUN}"):
        _system("cp", "-r", str(around.kept), str(disk.folder / "here"))
    os.sync()
    omega21(around.command(case), disk.folder)
    disk.cut()
    try:
        case.is_whole(disk.folder / case.left)
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes of its reader
        return f"{type(error).__name__}: {error}"
    return None


def main() -> int:
    """Cut the power after every command; return how many did not keep their word."""
    lost = 0
    with tempfile.TemporaryDirectory(prefix="omega21-cut-") as made:
        scratch = Path(made)
        server = start_server(scratch / "server")
        with server, power_disk(scratch) as disk:
            around = prepare(scratch, server.address)
            for case in CASES:
                wrong = survives(case, around, disk)
                lost += wrong is not None
                print(f"{case.name:24}{wrong or 'whole'}", flush=True)
    return lost


if __name__ == "__main__":
    sys.exit(main())
