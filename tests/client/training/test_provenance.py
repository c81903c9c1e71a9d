"""What makes a run's bits is recorded for each environment of steps, and a change is told once."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from omega21 import AsyncClient
from omega21.client.events import Notice
from omega21.client.training.options import TrainOptions
from omega21.client.training.provenance import changed_at, changes, differences, in_force, merge
from omega21.protocol.runs import Environment
from tests.client.runs import done, of_type, tiny, train
from tests.servers import RunningServer, start_server

HERE = Environment(
    from_step=1,
    device="cpu",
    precision="float32",
    deterministic=True,
    threads=1,
    torch_version="2.13.0",
    omega21_version="0.1.0",
)


def at(step: int, **other: Any) -> Environment:
    return HERE.model_copy(update={"from_step": step, **other})


def test_equal_conditions_are_one_stretch() -> None:
    assert merge([], [at(1), at(5)]) == [at(1)]
    assert merge([at(1)], [at(1)]) == [at(1)]
    assert merge([at(1)], [at(41)]) == [at(1)]  # a server that went on from a checkpoint
    assert changes([at(1)], [at(41)]) == []
    assert changes([], [at(1)]) == []


def test_other_conditions_hold_from_where_they_begin() -> None:
    merged = merge([at(1), at(90, threads=9)], [at(41, threads=2)])

    assert merged == [at(1), at(41, threads=2)]
    assert in_force(merged, 40) == at(1)
    assert in_force(merged, 41) == at(41, threads=2)
    assert in_force(merged, 0) is None
    assert changes([at(1)], [at(41, threads=2)]) == [(41, at(1), at(41, threads=2))]
    on_gpu = at(1, device="cuda A")
    assert changes([at(1)], [on_gpu, at(7)]) == [(1, at(1), on_gpu), (7, on_gpu, at(7))]
    assert differences(at(1), on_gpu) == "device cuda A (before: cpu)"
    assert changed_at(merged, first=1, last=100) == (41,)
    assert changed_at(merged, first=42, last=100) == ()


@pytest.mark.anyio
class TestOnAServer:
    @pytest.fixture
    async def two_threads(self, tmp_path: Path) -> AsyncIterator[RunningServer]:
        with start_server(tmp_path / "two", "--threads", "2", token="s3cret-token") as running:
            yield running

    async def test_a_change_is_told_once_and_marked(
        self, server: RunningServer, two_threads: RunningServer, tmp_path: Path
    ) -> None:
        async def more(running: RunningServer) -> tuple[str, tuple[int, ...]]:
            async with AsyncClient(running.address, token=running.token) as client:
                order = tiny("conditions", samples=192)
                async with client.train(
                    order, TrainOptions(workdir=tmp_path, pull="end")
                ) as events:
                    seen = [event async for event in events]
            told = "\n".join(notice.text for notice in of_type(seen, Notice))
            return told, done(seen).summary.environment_changed_at

        first, _ = await more(server)
        with closing(sqlite3.connect(tmp_path / "conditions" / "results.sqlite")) as db, db:
            db.execute("UPDATE steps SET seconds = 1000.0")
        second, changed = await more(two_threads)
        third, unchanged = await more(two_threads)

        assert "another environment" not in first + third
        assert second.count("computed in another environment from step 4 on") == 1
        assert "threads 2 (before: 1)" in second
        assert (changed, unchanged) == ((4,), ())
        with closing(sqlite3.connect(tmp_path / "conditions" / "results.sqlite")) as db:
            rows = db.execute("SELECT from_step, threads FROM environments").fetchall()
        assert rows == [(1, 1), (4, 2)]
        assert (tmp_path / "conditions" / "log.jsonl").read_text().count('"what":"conditions"') == 1


@pytest.mark.anyio
async def test_a_run_is_reproduced_from_its_checkpoint_and_nothing_is_left(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    told: list[str] = []
    async with AsyncClient(server.address, token=server.token) as client:
        async with client.train(
            tiny("same", samples=192), TrainOptions(workdir=tmp_path, pull="end")
        ) as events:
            async for _ in events:
                pass
        await train(client, tiny("same", samples=100), workdir=tmp_path)
        there = await client.verify("same", workdir=tmp_path, from_step=5, tell=told.append)
        before = [run.run for run in await client.runs()]
    async with AsyncClient(other_server.address, token=other_server.token) as client:
        elsewhere = await client.verify("same", workdir=tmp_path, tell=told.append)
        after = [run.run for run in await client.runs()]

    assert (there.first, there.last, there.weights_known) == (4, 5, True)
    assert (elsewhere.first, elsewhere.last, elsewhere.weights_known) == (1, 5, True)
    assert there.weights_sha256 == elsewhere.weights_sha256
    assert [text.split(" as ")[0] for text in told if "executing" in text] == [
        "executing steps 4 to 5 again",
        "executing steps 1 to 5 again",
    ]
    assert told[-1] == "equal up to step 5 of 5"
    assert not [run for run in before + after if run.startswith("verify-")]
    assert not (tmp_path / "same" / "verify" / "copy").exists()
