"""A mirror of a server's data folder, from which a server on another machine can continue.

It has the checkpoints, the users' source and the ledger.

    MIRROR/objects/<sha256>              files, named by their content
    MIRROR/manifests/<time>.json         the files of a copy and their paths

A copy exists once its manifest does, which is written last, so copies are atomic; the two newest
are kept. The mirror may be a mounted drive: no file there is locked, and no database is opened
there. A thread copies in the background; if the mirror is slower than checkpoints are written, it
copies the newest and skips others. A mirror that is full or missing causes a warning, and is
retried with the next checkpoint. One server writes to a mirror.
"""

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import Field, ValidationError

from omega21.data.durable import write_durably
from omega21.engine.storage.checkpoints import CheckpointStore
from omega21.engine.storage.code import CodeStore
from omega21.engine.storage.ledger import LEDGER
from omega21.engine.storage.snapshots import copy_ledger
from omega21.language import _
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.messages import Document
from omega21.protocol.names import Sha256

KEEP: Final = 2
"""Number of copies that are kept."""

_FORMAT: Final = 1
_CHUNK: Final = 2**20
_CLOSE_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class MirroredFile(Document):
    """A file of a copy: its path in the data folder, and its digest."""

    path: str = Field(
        pattern=r"^(ledger\.sqlite|code/[0-9a-f]{64}\.bin"
        r"|checkpoints/[0-9a-f]{32}/\d{12}\.(safetensors|json))$"
    )
    sha256: Sha256
    bytes: int


class Manifest(Document):
    """A complete copy."""

    format: int = _FORMAT
    created_at: float = Field(description="seconds since 1970")
    files: list[MirroredFile]


@dataclass
class Mirror:
    """Copies checkpoints and ledger of a data folder to `folder` after each `wake`."""

    folder: Path
    data_dir: Path
    checkpoints: CheckpointStore
    code: CodeStore
    _changed: threading.Event = field(default_factory=threading.Event)
    _closing: bool = False
    _thread: threading.Thread | None = None
    _complaint: str = ""

    def start(self) -> None:
        """Start copying."""
        self._thread = threading.Thread(target=self._run, name="omega21-mirror", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Start a copy, since a checkpoint was written; returns at once."""
        self._changed.set()

    def close(self) -> None:
        """Finish the copy in progress, within some seconds; an incomplete copy is ignored."""
        self._closing = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing:
            self._changed.wait()
            self._changed.clear()
            try:
                self._copy()
            except (OSError, sqlite3.Error) as error:
                self._complain(str(error))
            else:
                self._complain("")

    def _complain(self, reason: str) -> None:
        """Log a warning once when the mirror fails, and a message when it works again."""
        if reason and reason != self._complaint:
            logger.warning("the mirror %s has no new copy: %s", self.folder, reason)
        elif self._complaint and not reason:
            logger.info("the mirror %s is copied to again", self.folder)
        self._complaint = reason

    def _copy(self) -> None:
        """Make one complete copy. Raises OSError, and leaves the older copies unchanged then."""
        if not self.folder.is_dir():  # not created again: the drive may no longer be mounted
            raise OSError("it is gone")
        for name in ("objects", "manifests"):
            (self.folder / name).mkdir(exist_ok=True)
        snapshot = self.data_dir / ".mirror.sqlite"
        with ExitStack() as held:
            held.callback(snapshot.unlink, missing_ok=True)
            files, steps = self._newest(held)
            # After the checkpoints: a ledger with later steps is replayed from them.
            copy_ledger(self.data_dir / LEDGER, snapshot, steps=steps)
            files[LEDGER] = held.enter_context(snapshot.open("rb"))
            mirrored = [self._put(path, file) for path, file in sorted(files.items())]
        newest = next(manifests(self.folder), None)
        if newest is not None and newest[1].files == mirrored:
            return  # nothing has changed since
        now = time.time()
        manifest = Manifest(created_at=now, files=mirrored)
        # Later than the newest copy, even if this machine's clock is behind that of the previous
        # one.
        after = 0 if newest is None else int(newest[0].stem) + 1
        name = f"{max(int(now * 1000), after):015d}.json"
        _write(self.folder / "manifests" / name, [manifest.model_dump_json().encode()])
        self._tidy()

    def _newest(self, held: ExitStack) -> tuple[dict[str, BufferedReader], dict[str, int]]:
        """Open each run's newest checkpoint and the sources: one may be removed meanwhile."""
        files: dict[str, BufferedReader] = {}
        steps: dict[str, int] = {}
        for path in self.code.paths():
            place = path.relative_to(self.data_dir).as_posix()
            files[place] = held.enter_context(path.open("rb"))
        for run_id in self.checkpoints.run_ids():
            checkpoint = next(self.checkpoints.newest(run_id), None)
            if checkpoint is None:
                continue
            steps[run_id] = checkpoint.step
            for path in (checkpoint.path, checkpoint.path.with_suffix(".json")):
                place = path.relative_to(self.data_dir).as_posix()
                files[place] = held.enter_context(path.open("rb"))
        return files, steps

    def _put(self, path: str, file: BufferedReader) -> MirroredFile:
        """Copy a file, unless its content is already there."""
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        file.seek(0)
        target = self.folder / "objects" / sha256
        if not target.exists() or target.stat().st_size != size:
            _write(target, iter(lambda: file.read(_CHUNK), b""))
        return MirroredFile(path=path, sha256=sha256, bytes=size)

    def _tidy(self) -> None:
        """Remove older copies, and files that belong to no copy."""
        kept: set[str] = set()
        for number, (path, manifest) in enumerate(manifests(self.folder)):
            if number < KEEP:
                kept |= {file.sha256 for file in manifest.files}
            else:
                path.unlink()
        for path in (self.folder / "objects").iterdir():
            if path.name not in kept:
                path.unlink()


def open_mirror(folder: Path) -> None:
    """Create the mirror's folder in an existing one.

    Raises InvalidRequest if that is impossible.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InvalidRequest(
            _("the mirror {folder} cannot be created: {reason}").format(
                folder=folder, reason=error
            ),
            hint=_("mount its drive first, or choose another --mirror"),
        ) from error


def restore_from_mirror(folder: Path, data_dir: Path) -> bool:
    """Restore an empty data folder from the newest complete copy; False if there is none.

    The ledger is written last: until then the folder still counts as empty.
    """
    for path, manifest in manifests(folder):
        try:
            for file in sorted(manifest.files, key=lambda file: file.path == LEDGER):
                target = data_dir / PurePosixPath(file.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                write_durably(target, _checked(folder, file))
        except OSError as error:
            logger.warning("the copy %s of the mirror is not used: %s", path.stem, error)
            continue
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.created_at))
        logger.warning("the data folder was empty: it is the mirror's copy of %s now", made)
        return True
    return False


def manifests(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """Return a mirror's copies, newest first; unreadable ones are logged and skipped."""
    for path in sorted((folder / "manifests").glob("*.json"), reverse=True):
        try:
            manifest = Manifest.parse_lenient(path.read_bytes())
        except (OSError, ValidationError) as error:
            logger.warning("%s of the mirror cannot be read: %s", path.name, error)
            continue
        if manifest.format == _FORMAT:
            yield path, manifest


def _checked(folder: Path, file: MirroredFile) -> Iterator[bytes]:
    """Yield a file's content; raises OSError at its end if it does not match its digest."""
    hasher = hashlib.sha256()
    with (folder / "objects" / file.sha256).open("rb") as source:
        while chunk := source.read(_CHUNK):
            hasher.update(chunk)
            yield chunk
    if hasher.hexdigest() != file.sha256:
        raise OSError(f"{file.path} is damaged")


def _write(path: Path, chunks: Iterator[bytes] | list[bytes]) -> None:
    """Write a file atomically, by a rename: mounted drives support nothing more."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(chunks)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
