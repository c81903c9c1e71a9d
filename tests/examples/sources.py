"""The user's own source on a server, as it is there after it was uploaded."""

from pathlib import Path
from typing import Any

from omega21.data.code.bundle import prepare_code
from omega21.engine.storage.code import CodeStore
from omega21.protocol.tasks import CodeTask
from tests.servers import RunningServer


def put_source(server: RunningServer, folder: Path, **fields: Any) -> CodeTask:
    """Put the source of `net.py:build` into a server's data folder; return the task in it."""
    bundle = prepare_code(f"{folder / 'net.py'}:build")
    store = CodeStore(server.data_dir / "code")
    store.put(bundle.sha256, bundle.body, pinned=frozenset())
    return CodeTask(entry=bundle.entry, code_sha256=bundle.sha256, **fields)
