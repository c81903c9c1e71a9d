"""The power is cut right after a command said that a file is written: the file is whole.

The commands that need no server; `python -m chaos.powercut` has all of them.
"""

from collections.abc import Iterator

import pytest

from chaos.powercut import CASES, Around, Case, PowerDisk, power_disk, prepare, survives
from tests.servers import start_server


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PowerDisk]:
    try:
        with power_disk(tmp_path_factory.mktemp("power")) as made:
            yield made
    except (OSError, FileNotFoundError) as error:
        pytest.skip(f"no disk whose power can be cut here: {error}")


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Around:
    scratch = tmp_path_factory.mktemp("around")
    with start_server(scratch / "server") as server:
        return prepare(scratch, server.address)


def test_what_was_not_synced_is_lost(disk: PowerDisk) -> None:
    (disk.folder / "lost").write_bytes(b"never synced")
    disk.cut()
    assert not (disk.folder / "lost").exists()


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.needs_server], ids=lambda case: case.name
)
def test_what_was_said_to_be_written_is_whole(case: Case, around: Around, disk: PowerDisk) -> None:
    assert survives(case, around, disk) is None
