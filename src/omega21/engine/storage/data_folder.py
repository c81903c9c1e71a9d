"""A server's data folder: everything that an engine stores on disk."""

import shutil
import uuid
from pathlib import Path

from omega21 import open_files
from omega21.data.durable import write_durably
from omega21.data.locks import hold_lock
from omega21.engine.options import EngineOptions
from omega21.engine.storage.checkpoints import CheckpointStore
from omega21.engine.storage.code import CodeStore
from omega21.engine.storage.ledger import LEDGER, Ledger
from omega21.engine.storage.mirror import Mirror, open_mirror, restore_from_mirror
from omega21.engine.storage.requirements import Requirements
from omega21.engine.storage.run_logs import RunLogs
from omega21.engine.storage.shards import ShardStore
from omega21.engine.storage.upload_parts import UploadPartStore
from omega21.language import _
from omega21.protocol.errors import RunFolderConflict

_SHARE_OF_DISK = 0.8  # of the free space, for shards


class DataFolder:
    """Opens a data folder for one engine, and restores an empty one from the mirror.

    It holds `ledger.sqlite` (runs, plans, step records), `shards/`, `checkpoints/`, `incoming/`
    (parts of checkpoints that are being uploaded), `code/` (users' source), `environments/` (its
    requirements), `logs/` (what runs print) and `server_id`.
    """

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Open the folder. Raises RunFolderConflict when it is in use, or has another format."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        lock = hold_lock(path / "lock")
        if lock is None:
            raise RunFolderConflict(
                _("another server uses {data_dir}").format(data_dir=path),
                hint=_("stop it, or choose another --data-dir"),
            )
        self._lock = lock
        self.server_id = _server_id(path / "server_id")
        if options.mirror is not None:
            open_mirror(options.mirror)
            if not (path / LEDGER).exists():
                restore_from_mirror(options.mirror, path)
        self.ledger = Ledger(path / LEDGER)
        self.shards = ShardStore(
            path / "shards",
            limit=disk_limit(path, options.disk_limit),
            open_files=open_files.for_shards(),
        )
        self.code = CodeStore(path / "code")
        self.requirements = Requirements(path / "environments")
        self.checkpoints = CheckpointStore(path / "checkpoints")
        self.run_logs = RunLogs(path / "logs")
        self.upload_parts = UploadPartStore(path / "incoming")
        self.mirror = (
            Mirror(options.mirror, path, self.checkpoints, self.code) if options.mirror else None
        )

    def close(self) -> None:
        """Close all files and release the folder."""
        if self.mirror is not None:
            self.mirror.close()
        self.requirements.close()
        self.ledger.close()
        self._lock.release()


def disk_limit(folder: Path, wanted: int | None) -> int:
    """Return the maximum size of all shards in bytes: `wanted`, or 80 % of the available space."""
    if wanted is not None:
        return wanted
    stored = sum(path.stat().st_size for path in folder.glob("shards/??/*.safetensors"))
    return int((shutil.disk_usage(folder).free + stored) * _SHARE_OF_DISK)


def _server_id(path: Path) -> str:
    if not path.exists():
        write_durably(path, [uuid.uuid4().hex.encode()])
    return path.read_text().strip()
