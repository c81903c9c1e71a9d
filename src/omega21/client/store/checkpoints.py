"""The downloaded checkpoint in a run folder.

    checkpoint/STEP.safetensors         the file as the server had it
    checkpoint/STEP.sha256              its digest, as sha256sum writes and checks it
    checkpoint/STEP.DIGEST.part         an incomplete download

A file without its digest is ignored. The use of a checkpoint is decided by the record in its own
metadata, never by its name.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omega21.client.store.run_folder import RunFolder
from omega21.data.durable import write_durably
from omega21.language import N_, _
from omega21.protocol.checkpoints import (
    MAX_HEADER_BYTES,
    UPLOAD_PART_BYTES,
    CheckpointRecord,
    read_checkpoint_header,
    trained_plan_sha256,
)
from omega21.protocol.errors import InvalidCheckpoint
from omega21.protocol.plan import plan_steps

_PULL_AGAIN: Final = N_("remove it, and download another one with `omega21 checkpoint pull`")


_CHECKPOINT: Final = re.compile(r"[0-9]{12,16}\.safetensors")
_PART: Final = re.compile(r"[0-9]{12,16}\.[0-9a-f]{64}\.part")


@dataclass(frozen=True, slots=True)
class HeldCheckpoint:
    """A checkpoint's file on this machine, its content checked, and its record."""

    path: Path
    sha256: str
    size: int
    record: CheckpointRecord

    @property
    def step(self) -> int:
        """The last step that it includes."""
        return self.record.step

    def parts(self, *, run_id: str | None = None) -> Iterator[bytes]:
        """Read the file in parts of at most 8 MB; for the run of another id where one is given.

        Ids have one length and stand in the header, which is in the first part.
        """
        with self.path.open("rb") as file:
            first = file.read(UPLOAD_PART_BYTES)
            if run_id is not None:
                first = first.replace(self.record.run_id.encode(), run_id.encode(), 1)
            yield first
            while part := file.read(UPLOAD_PART_BYTES):
                yield part


def checkpoint_folder(run_folder: Path) -> Path:
    """Return the checkpoint folder of a run folder."""
    return run_folder / "checkpoint"


def held_step(run_folder: Path) -> int | None:
    """Return the step of the stored checkpoint, from its name only; None if there is none."""
    path = _newest(run_folder)
    return None if path is None else int(path.stem)


def find_checkpoint(folder: RunFolder) -> HeldCheckpoint | None:
    """Return the checkpoint in a run's folder, after checking that it is complete and this run's.

    Raises InvalidCheckpoint, naming the file.
    """
    path = _newest(folder.path)
    if path is None:
        return None
    held = read_checkpoint(path)
    if held.sha256 != sealed_sha256(path):
        raise InvalidCheckpoint(
            _("{path} is damaged: its digest does not match").format(path=path), hint=_(_PULL_AGAIN)
        )
    _check_belongs(folder, held)
    return held


def read_checkpoint(path: Path) -> HeldCheckpoint:
    """Read the record of a checkpoint's file and digest it. Raises InvalidCheckpoint, OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(MAX_HEADER_BYTES + 8)
    try:
        _spans, record = read_checkpoint_header(start, size)
    except InvalidCheckpoint as error:
        raise InvalidCheckpoint(
            _("{path} is not a checkpoint: {why}").format(path=path, why=error.message),
            hint=error.hint or _(_PULL_AGAIN),
        ) from error
    return HeldCheckpoint(path, file_sha256(path), size, record)


def seal(path: Path, sha256: str) -> None:
    """Write a checkpoint's digest file; on disk when it returns."""
    line = f"{sha256}  {path.name}\n"
    write_durably(path.with_suffix(".sha256"), line.encode())


def sealed_sha256(path: Path) -> str:
    """Read a checkpoint's digest file. Raises InvalidCheckpoint."""
    try:
        return path.with_suffix(".sha256").read_text(encoding="ascii").split()[0]
    except (OSError, ValueError, IndexError) as error:
        raise InvalidCheckpoint(
            _("{path} has no readable digest file").format(path=path),
            hint=_(_PULL_AGAIN),
        ) from error


def remove_others(path: Path) -> None:
    """Remove the other checkpoints in a checkpoint's folder, and incomplete downloads.

    Only downloaded ones, recognised by name and digest file: other files are the user's.
    """
    for part in pulled_parts(path.parent):
        part.unlink()
    for other in path.parent.glob("*.sha256"):
        sealed = other.with_suffix(".safetensors")
        if other.stem != path.stem and _CHECKPOINT.fullmatch(sealed.name) and is_pulled(sealed):
            sealed.unlink(missing_ok=True)
            other.unlink()


def is_pulled(path: Path) -> bool:
    """Whether a download may use this name: it is free, or that of a downloaded checkpoint."""
    if not os.path.lexists(path):
        return True
    try:
        return _is_file(path) and sealed_sha256(path) == file_sha256(path)
    except InvalidCheckpoint:
        return False


def pulled_parts(folder: Path) -> list[Path]:
    """Return incomplete downloads, the newest first."""
    found = (path for path in folder.glob("*.part") if _PART.fullmatch(path.name))
    return sorted((path for path in found if _is_file(path)), reverse=True)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def file_sha256(path: Path) -> str:
    """Digest a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _newest(run_folder: Path) -> Path | None:
    found = checkpoint_folder(run_folder).glob("*.safetensors")
    return max((path for path in found if _CHECKPOINT.fullmatch(path.name)), default=None)


def _check_belongs(folder: RunFolder, held: HeldCheckpoint) -> None:
    """Raise InvalidCheckpoint unless a checkpoint matches this run, its configuration and plan."""
    record, run = held.record, folder.record
    hint = _("nothing was sent; move it out of the run folder")
    if record.run_id != run.id:
        raise InvalidCheckpoint(
            _("{path} is a checkpoint of another run").format(path=held.path), hint=hint
        )
    if record.config != run.config:
        raise InvalidCheckpoint(
            _("{path} has another configuration").format(path=held.path), hint=hint
        )
    planned = plan_steps(folder.segments)
    if record.step > planned or record.plan_sha256 != trained_plan_sha256(
        folder.segments, record.step
    ):
        raise InvalidCheckpoint(
            _("{path} belongs to another plan").format(path=held.path), hint=hint
        )
    if folder.results.digest(record.step) not in (None, record.digest):
        raise InvalidCheckpoint(
            _("{path} does not fit the results in the folder").format(path=held.path), hint=hint
        )
