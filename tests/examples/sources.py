"""The user's own source on a server, as it is there after it was uploaded."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from omega21.protocol.tasks import CodeTask
from tests.servers import RunningServer


def put_source(
    server: RunningServer, folder: Path, entry: str = "net:build", **fields: Any
) -> CodeTask:
    """Put a folder of source files into a server's data folder, and return the task in it."""
    files = sorted(folder.glob("*.py"))
    sha256 = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    there = server.data_dir / "code" / sha256
    there.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, there)
    return CodeTask(entry=entry, code_sha256=sha256, **fields)
