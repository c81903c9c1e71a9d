"""`omega21 train` through a server that trains as it should and makes a field wrong."""

from itertools import islice
from pathlib import Path

import pytest

from tests.attacks.hostile import faults_of, run_client
from tests.attacks.hostile_proxy import TRAIN, HostileProxy, training_harms
from tests.servers import start_server

HARMS = 3


@pytest.mark.parametrize("seed", [1, 2])
def test_a_training_meets_a_wrong_field_with_one_line(tmp_path: Path, seed: int) -> None:
    options = ("--device", "cpu", "--threads", "1")
    with start_server(tmp_path / "data", *options) as server:
        proxy = HostileProxy(server.address)
        with proxy.running():
            calm = run_client(TRAIN, proxy, tmp_path, run="calm")
            assert calm.status == 0, calm.err
            assert not faults_of(calm)
            for number, harm in enumerate(islice(training_harms(proxy, seed=seed), HARMS)):
                folder = tmp_path / f"harm-{number}"
                folder.mkdir()
                proxy.harm = harm
                ended = run_client(TRAIN, proxy, folder, run=f"harm-{number}")
                assert not faults_of(ended), harm.name
            assert proxy.harmed
