"""What a program is told of a run while it trains."""

from pathlib import Path
from typing import get_args

import pytest

from omega21 import AsyncClient
from omega21.client.events import Event, How, RunReady
from omega21.client.run_reader import open_stored_run
from omega21.client.store.run_folder import RunFolder
from tests.client.runs import of_type, tiny, train
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


async def test_every_way_in_which_a_run_can_be_met_is_told(
    server: RunningServer, tmp_path: Path
) -> None:
    events: list[Event] = []
    async with AsyncClient(server.address, token=server.token) as client:
        events += await train(client, tiny("met"), workdir=tmp_path)
        events += await train(client, tiny("met"), workdir=tmp_path)
        with RunFolder.open(tmp_path / "met") as folder:
            folder.update(finished_segments=1)  # as a program that was killed leaves it
        events += await train(client, tiny("met"), workdir=tmp_path)
        async with client.watch("met", workdir=tmp_path) as watched:
            events += [event async for event in watched]
    with open_stored_run("met", tmp_path) as stored:
        events += stored.events()

    told = [ready.how for ready in of_type(events, RunReady)]
    assert told[:3] == ["created", "continued", "finishing"]
    assert set(told) == set(get_args(How))
