"""The user's own source on a server, as it is there after it was uploaded."""

from pathlib import Path
from typing import Any

from omega21.data.code.bundle import prepare_code
from omega21.protocol.tasks import CodeTask
from tests.servers import RunningServer


def put_source(server: RunningServer, folder: Path, **fields: Any) -> CodeTask:
    """Put the source of `net.py:build` into a server's data folder; return the task in it."""
    bundle = prepare_code(f"{folder / 'net.py'}:build")
    for name, content in bundle.files.items():
        there = server.data_dir / "code" / bundle.sha256 / name
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(content)
    return CodeTask(entry=bundle.entry, code_sha256=bundle.sha256, **fields)
