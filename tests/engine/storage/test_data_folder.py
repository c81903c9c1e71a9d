from pathlib import Path

import pytest

from omega21.engine.options import EngineOptions
from omega21.engine.storage.data_folder import disk_limit
from omega21.protocol.errors import InvalidRequest
from tests.engine.engines import running
from tests.engine.local_device import local_engine


def test_a_disk_limit_is_what_was_asked_for_or_a_share_of_the_disk(tmp_path: Path) -> None:
    assert disk_limit(tmp_path, 5) == 5
    (tmp_path / "shards" / "ab").mkdir(parents=True)
    assert disk_limit(tmp_path, None) > 0


def test_an_engine_without_its_device_leaves_the_folder_to_others(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        local_engine(tmp_path, EngineOptions(device="abacus"))

    with running(tmp_path) as engine:
        assert engine.runs.summary("default").step == 0
