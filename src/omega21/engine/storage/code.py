"""The users' source on the server's disk.

    code/<sha256>.bin        the body as it was sent, written durably; what counts
    code/<sha256>/           its files, which an executor imports; made again where they differ

A run's own code can write where its server can, so the files are compared with the body each time
that an executor is started.
"""

import os
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from omega21.data.durable import make_private_folder, write_durably
from omega21.data.failures import refused_write
from omega21.language import _
from omega21.protocol.errors import InvalidCode, StorageFull, UnknownCode
from omega21.protocol.tasks.code import Files, decode_code

LIMIT: Final = 2**30
"""Maximum size of all bodies in bytes; those that no run needs make room."""


@dataclass
class CodeStore:
    """The sources of one data folder, by digest. Thread-safe."""

    folder: Path
    limit: int = LIMIT
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __contains__(self, sha256: str) -> bool:
        return self._path(sha256).exists()

    def put(self, sha256: str, body: bytes, *, pinned: frozenset[str]) -> bool:
        """Store a body whose content was checked; False when it exists. On disk on return.

        Bodies not in `pinned` make room, least recently used first. Raises StorageFull.
        """
        with self._lock:
            path = self._path(sha256)
            if path.exists():
                os.utime(path)
                return False
            try:
                make_private_folder(self.folder)
                self._make_room(len(body), pinned)
                write_durably(path, body)
            except OSError as error:
                text = _("writing source {sha256} failed: {error}").format(
                    sha256=sha256[:12], error=error.strerror
                )
                raise refused_write(error, text) from error
            return True

    def read(self, sha256: str) -> bytes:
        """Return the body of a source. Raises UnknownCode."""
        try:
            return self._path(sha256).read_bytes()
        except FileNotFoundError as error:
            raise UnknownCode(
                _("source {sha256} is not on this server").format(sha256=sha256[:12])
            ) from error

    def unpack(self, sha256: str) -> Path:
        """Return the folder of a source's files, made where it is missing or was changed.

        Raises UnknownCode, also for a body that is damaged; it is removed then.
        """
        with self._lock:
            body = self.read(sha256)
            try:
                files = decode_code(body, sha256)
            except InvalidCode as error:
                self._path(sha256).unlink()
                raise UnknownCode(
                    _("source {sha256} was damaged on the server's disk and was removed").format(
                        sha256=sha256[:12]
                    )
                ) from error
            place = self.folder / sha256
            if _content(place) != files:
                self._write(place, files)
            return place

    def paths(self) -> list[Path]:
        """Return the paths of all bodies."""
        return sorted(self.folder.glob("*.bin"))

    def _path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.bin"

    def _write(self, place: Path, files: Files) -> None:
        scratch = Path(tempfile.mkdtemp(prefix=".unpack-", dir=self.folder))
        try:
            for name, content in files.items():
                path = scratch / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            _remove(place)
            scratch.rename(place)  # not synced: it is compared with the body at each use
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _make_room(self, size: int, pinned: frozenset[str]) -> None:
        held = {path: path.stat() for path in self.paths()}
        excess = sum(stat.st_size for stat in held.values()) + size - self.limit
        for path in sorted(held, key=lambda path: held[path].st_mtime):
            if excess <= 0:
                return
            if path.stem not in pinned:
                path.unlink()
                _remove(self.folder / path.stem)
                excess -= held[path].st_size
        if excess > 0:
            raise StorageFull(
                _("the sources on this server take {limit} bytes, its maximum").format(
                    limit=self.limit
                )
            )


def _content(place: Path) -> dict[str, bytes] | None:
    """Return the files of a folder; None where there is a link, or no folder."""
    if not place.is_dir() or place.is_symlink():
        return None
    files = {}
    for path in place.rglob("*"):
        if path.is_symlink():
            return None
        if not path.is_dir():
            files[path.relative_to(place).as_posix()] = path.read_bytes()
    return files


def _remove(place: Path) -> None:
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
