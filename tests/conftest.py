"""Settings of the whole suite. They come before any test imports torch or starts a process."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Several processes compute on few cores here; a thread that spins while it waits takes one of them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell's background job ignores Ctrl-C, and so would every program that a test starts there.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test reads or writes what the person at this machine has remembered of servers.
os.environ["OMEGA21_SERVERS"] = ""
# A home of its own for each command, and the list of fonts once.
os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / "omega21-matplotlib"))
# The tests read what is said in English, whatever this machine's locale is.
os.environ["LANGUAGE"] = "en"

# An example that is slow on a busy machine is no failure: figures of speed belong to benchmarks.
settings.register_profile("omega21", deadline=None, print_blob=True)
settings.load_profile("omega21")

LONGEST = {"attacks", "chaos", "docs", "examples", "notebook"}
"""Folders of few tests that take minutes: first, else one worker is left with them at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files of tests; those within a file stay as they are."""
    items.sort(key=lambda item: item.path.relative_to(config.rootpath).parts[1] not in LONGEST)


@pytest.fixture(autouse=True, scope="session")
def _own_user_data() -> Iterator[None]:
    """Keep what programs write beside the run folders out of this user's own data."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", folder)
        yield
