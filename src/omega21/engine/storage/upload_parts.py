"""Upload parts of checkpoints, named by their content."""

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omega21.data.durable import write_durably
from omega21.data.failures import refused_write
from omega21.language import _
from omega21.protocol.checkpoints import (
    MAX_CHECKPOINT_BYTES,
    MAX_HEADER_BYTES,
    UPLOAD_PART_BYTES,
    CheckpointRecord,
    CheckpointStored,
    RestoreCheckpoint,
    read_checkpoint_header,
)
from omega21.protocol.errors import BodyTooLarge, InvalidCheckpoint, StorageFull

_KEEP_SECONDS = 24 * 3600.0


@dataclass
class UploadPartStore:
    """The folder of upload parts, in total at most as large as a checkpoint. Thread-safe.

    Parts older than a day are removed at the start.
    """

    folder: Path
    _sizes: dict[str, int] = field(
        default_factory=dict
    )  # of the stored parts, and of those being written
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - _KEEP_SECONDS
        for path in self.folder.iterdir():
            if path.suffix == ".tmp" or path.stat().st_mtime < oldest:
                path.unlink()
            else:
                self._sizes[path.name] = path.stat().st_size

    def put(self, sha256: str, body: bytes) -> CheckpointStored:
        """Store a part under its digest; it is on disk on return.

        Raises BodyTooLarge, InvalidCheckpoint when the content does not match the digest,
        StorageFull.
        """
        if len(body) > UPLOAD_PART_BYTES:
            raise BodyTooLarge(
                _("an upload part has at most {most} bytes, this one {size}").format(
                    most=UPLOAD_PART_BYTES, size=len(body)
                )
            )
        if hashlib.sha256(body).hexdigest() != sha256:
            raise InvalidCheckpoint(
                _("upload part {sha256} does not match its digest").format(sha256=sha256[:12]),
                hint=_("it was damaged in transit; send it again"),
            )
        with self._lock:
            others = sum(size for name, size in self._sizes.items() if name != sha256)
            if others + len(body) > MAX_CHECKPOINT_BYTES:
                raise StorageFull(
                    _("there are too many upload parts of checkpoints"), retry_after=60
                )
            is_new = sha256 not in self._sizes
            self._sizes[sha256] = len(body)
        try:
            write_durably(self.folder / sha256, [body])
        except OSError as error:
            if is_new:
                self._drop(sha256)
            text = _("the upload part was not written: {error}").format(error=error)
            raise refused_write(error, text) from error
        return CheckpointStored(sha256=sha256, bytes=len(body))

    def record(self, request: RestoreCheckpoint) -> CheckpointRecord:
        """Read the record of the checkpoint that the parts make, after checking its digest.

        Raises InvalidCheckpoint.
        """
        hasher = hashlib.sha256()
        start = b""
        total = 0
        for chunk in self.chunks(request):
            hasher.update(chunk)
            total += len(chunk)
            if len(start) < MAX_HEADER_BYTES + 8:
                start += chunk
        if total != request.bytes or hasher.hexdigest() != request.sha256:
            raise InvalidCheckpoint(_("the upload parts do not make the announced file"))
        _spans, record = read_checkpoint_header(start, total)
        return record

    def chunks(self, request: RestoreCheckpoint) -> Iterator[bytes]:
        """Read the parts in order. Raises InvalidCheckpoint for a missing one."""
        for sha256 in request.parts:
            try:
                yield (self.folder / sha256).read_bytes()
            except FileNotFoundError as error:
                raise InvalidCheckpoint(
                    _("upload part {sha256} is missing").format(sha256=sha256[:12]),
                    hint=_("send it first"),
                ) from error

    def forget(self, request: RestoreCheckpoint) -> None:
        """Remove the parts of a checkpoint that was restored."""
        for sha256 in request.parts:
            self._drop(sha256)

    def _drop(self, sha256: str) -> None:
        with self._lock:
            (self.folder / sha256).unlink(missing_ok=True)
            self._sizes.pop(sha256, None)
