"""One server under attack for all of a worker's files; at its end the weights have to be right."""

from collections.abc import Iterator

import pytest

from tests.attacks.target import TOKEN, Target
from tests.servers import start_server


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacked")
    options = ("--device", "cpu", "--threads", "1")
    with start_server(folder / "data", *options, token=TOKEN) as server:
        attacked = Target(server)
        yield attacked
        came_to, should = attacked.undisturbed(folder / "undisturbed")
        assert came_to.step > 0
        assert (came_to.step, came_to.weights_sha256) == (should.step, should.weights_sha256)
        assert came_to.digest == should.digest
