"""What there is to finish, as a run's folder alone tells."""

import secrets
import time
from pathlib import Path

import pytest

from omega21.client.store.run_folder import RunFolder, RunRecord, run_folder_path
from omega21.client.training.resume import unfinished_request
from omega21.protocol.errors import RunFolderConflict
from tests.client.runs import tiny


def test_a_client_killed_before_it_planned_anything_left_nothing_to_finish(tmp_path: Path) -> None:
    record = RunRecord(
        run="early",
        id=secrets.token_hex(16),
        config=tiny("early").config(),
        created_at=time.time(),
    )
    RunFolder.create(run_folder_path("early", tmp_path), record).close()
    with pytest.raises(RunFolderConflict, match="run early has no plan yet"):
        unfinished_request("early", tmp_path)
