from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from omega21.engine.engine import Engine
from tests.engine.engines import DrivenRun, running


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Compute the plain sequence as the engines of these tests do: on one thread."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with running(tmp_path / "data") as engine:
        yield engine


@pytest.fixture
def run(engine: Engine) -> DrivenRun:
    return DrivenRun(engine)
