"""Run folders as they are read beside the program that works on them."""

from pathlib import Path

import pytest

from omega21 import AsyncClient
from omega21.client.events import RunReady, StepsDone
from omega21.client.run_reader import open_stored_run
from omega21.client.training.options import Pull, TrainOptions
from tests.client.runs import of_type, tiny
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("pull", "durable"), [("end", 10), ("never", 0)])
async def test_a_stored_run_is_as_durable_as_the_checkpoint_beside_it(
    pull: Pull, durable: int, server: RunningServer, tmp_path: Path
) -> None:
    async with AsyncClient(server.address, token=server.token) as client:
        order = tiny(f"stored-{pull}")
        async with client.train(order, TrainOptions(workdir=tmp_path, pull=pull)) as events:
            assert [event async for event in events]

    with open_stored_run(f"stored-{pull}", tmp_path) as stored:
        position, told = stored.position(), list(stored.events())
    assert (position.step, position.durable_step) == (10, durable)
    assert of_type(told, RunReady)[0].position == position
    assert of_type(told, StepsDone)[-1].position == position
