"""Checkpoints on the server's disk: atomic, with digests, several for each run.

A checkpoint of step 123 is two files in the run's folder:

    000000000123.safetensors   weights, optimizer, scaler; the record in its metadata
    000000000123.json          the seal: digest and size of the first, written after it

It exists once its seal does. Both are written under a temporary name, synced and renamed, so a
kill or a power cut leaves either a complete checkpoint or none. A checkpoint that is damaged later
is detected when it is read, and the previous one is used.
"""

import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from omega21.data.durable import make_private_folder, write_durably
from omega21.language import _
from omega21.protocol.checkpoints import (
    CHECKPOINT_FORMAT,
    KEEP_WHILE_PULLED_SECONDS,
    MAX_HEADER_BYTES,
    RECORD_KEY,
    CheckpointRecord,
    read_checkpoint_header,
)
from omega21.protocol.errors import InvalidCheckpoint
from omega21.protocol.messages import Document
from omega21.protocol.names import Sha256
from omega21.protocol.shards import Tensors, TensorSpan, pack_chunks

KEEP = 2
"""Number of checkpoints kept of a run, besides those being downloaded."""

_CHUNK = 2**20

logger = logging.getLogger(__name__)


class _Seal(Document):
    """Digest and size of a checkpoint's file."""

    format: int = CHECKPOINT_FORMAT
    sha256: Sha256
    bytes: int


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk; its content is checked when it is read."""

    path: Path
    sha256: str
    record: CheckpointRecord

    @property
    def step(self) -> int:
        """The last step that it includes."""
        return self.record.step


@dataclass
class CheckpointStore:
    """The checkpoints of a data folder, by run id. Thread-safe."""

    folder: Path
    _pulled: dict[Path, float] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def write(self, record: CheckpointRecord, state: Tensors) -> Checkpoint:
        """Write a checkpoint; it is on disk on return. Raises OSError, and leaves nothing then."""
        metadata = {RECORD_KEY: record.model_dump_json()}
        return self._seal(record, _Digesting(pack_chunks(state, metadata)))

    def adopt(self, record: CheckpointRecord, parts: Iterable[bytes]) -> Checkpoint:
        """Write an uploaded checkpoint, from the bytes of its file. Raises OSError."""
        return self._seal(record, _Digesting(parts))

    def _seal(self, record: CheckpointRecord, chunks: "_Digesting") -> Checkpoint:
        folder = self.folder / record.run_id
        path = folder / f"{record.step:012d}.safetensors"
        with self._lock:  # one write or removal at a time
            make_private_folder(folder)
            path.with_suffix(".json").unlink(missing_ok=True)  # of a file about to be replaced
            try:
                write_durably(path, chunks)
                seal = _Seal(sha256=chunks.hexdigest(), bytes=chunks.bytes)
                write_durably(path.with_suffix(".json"), [seal.model_dump_json().encode()])
            except OSError:
                path.unlink(missing_ok=True)  # without a seal it only takes space
                raise
        return Checkpoint(path, seal.sha256, record)

    def newest(self, run_id: str) -> Iterator[Checkpoint]:
        """Return a run's checkpoints, newest first; invalid ones are logged and skipped.

        Only seal, size and record are checked here; `read` checks the content.
        """
        for seal_path in self._seals(run_id):
            try:
                yield _open(seal_path)
            except InvalidCheckpoint as error:
                logger.warning("%s is not used: %s", seal_path.name, error)

    def read(self, checkpoint: Checkpoint) -> dict[str, NDArray[np.generic]]:
        """Read a checkpoint's tensors, its content checked. Raises InvalidCheckpoint."""
        try:
            data = checkpoint.path.read_bytes()
        except OSError as error:
            raise InvalidCheckpoint(
                _("{name} cannot be read: {error}").format(name=checkpoint.path.name, error=error)
            ) from error
        if hashlib.sha256(data).hexdigest() != checkpoint.sha256:
            raise InvalidCheckpoint(_("{name} is damaged").format(name=checkpoint.path.name))
        spans, _record = read_checkpoint_header(data, len(data))
        return {name: _tensor(data, span) for name, span in spans.items()}

    def forget(self, checkpoint: Checkpoint) -> None:
        """Remove a checkpoint that was not used."""
        with self._lock:
            checkpoint.path.with_suffix(".json").unlink(missing_ok=True)
            checkpoint.path.unlink(missing_ok=True)

    def discard(self, checkpoint: Checkpoint) -> None:
        """Set a damaged checkpoint aside, so that it is not tried again."""
        with self._lock:
            checkpoint.path.with_suffix(".json").unlink(missing_ok=True)
            if checkpoint.path.exists():
                checkpoint.path.replace(checkpoint.path.with_suffix(".damaged"))

    def tidy(self, run_id: str) -> None:
        """Remove all but the newest checkpoints, and the remains of a kill or of damage."""
        folder = self.folder / run_id
        now = time.monotonic()
        with self._lock:
            self._pulled = {path: end for path, end in self._pulled.items() if end > now}
            seals = self._seals(run_id)
            kept = {path.stem for path in [*self._pulled, *seals[:KEEP]]}
            for path in seals:  # the seal first: a file without one is not a checkpoint
                if path.stem not in kept:
                    path.unlink()
            for path in _listed(folder):
                if path.stem not in kept or path.suffix == ".damaged":
                    path.unlink(missing_ok=True)

    def _seals(self, run_id: str) -> list[Path]:
        found = [path for path in _listed(self.folder / run_id) if path.suffix == ".json"]
        return sorted(found, reverse=True)

    def keep_while_pulled(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint for 15 minutes from now, since it is being downloaded."""
        with self._lock:
            self._pulled[checkpoint.path] = time.monotonic() + KEEP_WHILE_PULLED_SECONDS

    def remove(self, run_id: str) -> None:
        """Remove all checkpoints of a run."""
        folder = self.folder / run_id
        with self._lock:
            if folder.exists():
                shutil.rmtree(folder)

    def run_ids(self) -> list[str]:
        """Return the ids of the runs that have a folder."""
        return [path.name for path in _listed(self.folder)]


def _listed(folder: Path) -> list[Path]:
    """Return the files of a folder; none if it was removed meanwhile."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


class _Digesting:
    """Forwards chunks and computes their digest."""

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            self.bytes += len(chunk)
            yield chunk

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _open(seal_path: Path) -> Checkpoint:
    path = seal_path.with_suffix(".safetensors")
    try:
        seal = _Seal.parse_lenient(seal_path.read_bytes())
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(MAX_HEADER_BYTES + 8)
    except OSError as error:
        raise InvalidCheckpoint(_("it cannot be read: {error}").format(error=error)) from error
    except ValidationError as error:
        raise InvalidCheckpoint(_("its seal is damaged")) from error
    if seal.format != CHECKPOINT_FORMAT:
        raise InvalidCheckpoint(
            _("it has format {found}, this omega21 reads {known}").format(
                found=seal.format, known=CHECKPOINT_FORMAT
            )
        )
    if size != seal.bytes:
        raise InvalidCheckpoint(
            _("it has {size} bytes, its seal says {sealed}").format(size=size, sealed=seal.bytes)
        )
    _spans, record = read_checkpoint_header(start, size)
    return Checkpoint(path, seal.sha256, record)


def _tensor(data: bytes, span: TensorSpan) -> NDArray[np.generic]:
    count = int(np.prod(span.shape, dtype=np.int64))
    array = np.frombuffer(data, dtype=span.dtype, count=count, offset=span.offset)
    return array.reshape(span.shape)


def weights_of(state: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Return the weights in an executor's state."""
    prefix = "weights."
    return {
        name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)
    }
