"""A folder of sources, and an interpreter that is as before after each test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.code.sources import Sources


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[Sources]:
    """A folder of sources; what a test imports of it is forgotten, as by the end of a process."""
    path, modules, writes = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    yield Sources(tmp_path / "code")
    sys.path[:], sys.dont_write_bytecode = path, writes
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if name.startswith("omega21_code_") or file.startswith(str(tmp_path)):
            del sys.modules[name]
