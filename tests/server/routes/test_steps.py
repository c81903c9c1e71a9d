"""Long polls: what ends them, what they cost, and that a reply is small."""

import json
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx
import pytest
from starlette.types import Message

from omega21.engine.engine import Engine
from omega21.protocol.steps import StepsReply
from omega21.server.app import create_app
from omega21.server.auth.access import Access
from tests.server.routes.test_runs import (
    advance,
    id_of,
    make_run,
    put_segment,
    put_shard,
    read_steps,
    segment,
    shard,
)
from tests.servers import RunningServer


def test_results_without_vectors_are_small_and_with_them_whole(http: httpx.Client) -> None:
    make_run(http, "rows")
    tensors = shard(1, 20)
    put_shard(http, tensors)
    put_segment(http, "rows", segment(tensors, samples=20))
    advance(http, "rows", 5)
    read_steps(http, "rows", after=4, wait=20)

    plain = http.get("/runs/rows/steps").json()
    whole = http.get("/runs/rows/steps", params={"vectors": 1, "limit": 3}).json()

    assert set(plain["steps"][0]) == {
        "step", "loss", "samples", "digest", "ended_at", "seconds", "metrics"
    }  # fmt: skip
    assert max(len(json.dumps(row)) for row in plain["steps"]) < 360
    assert [row["step"] for row in whole["steps"]] == [1, 2, 3]
    sizes = [{name: len(v) for name, v in row["vectors"].items()} for row in whole["steps"]]
    assert sizes == [{"dendrites": 16, "coherence": 64}] * 3


def test_a_cursor_at_the_end_waits_for_the_next_result(
    server: RunningServer, http: httpx.Client
) -> None:
    make_run(http, "next")
    tensors = shard(2)
    put_shard(http, tensors)
    put_segment(http, "next", segment(tensors, samples=8))

    def watch() -> StepsReply:
        with httpx.Client(base_url=server.address, timeout=60) as other:
            return read_steps(other, "next", wait=25, gather=25)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        advance(http, "next", 2)
        assert [row.step for row in watching.result().steps] == [1, 2]


def test_a_change_of_state_ends_the_wait(server: RunningServer, http: httpx.Client) -> None:
    make_run(http, "change")

    def watch() -> StepsReply:
        with httpx.Client(base_url=server.address, timeout=20) as other:  # less than the wait
            return read_steps(other, "change", wait=25)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        revision = 0
        while not watching.done():  # whenever it begins to watch, the next change ends it
            revision += 1
            control = {"run_id": id_of("change"), "revision": revision}
            control["paused"] = revision % 2 == 1
            http.put("/runs/change/control", json=control).raise_for_status()
        assert watching.result().steps == []


def test_a_wait_that_is_over_answers_empty(http: httpx.Client) -> None:
    make_run(http, "empty")
    assert read_steps(http, "empty", after=10**6, wait=0.01, gather=25).steps == []


def test_a_run_that_is_removed_ends_the_wait(server: RunningServer, http: httpx.Client) -> None:
    make_run(http, "leaves")

    def watch() -> httpx.Response:
        with httpx.Client(base_url=server.address, timeout=60) as other:
            return other.get("/runs/leaves/steps", params={"wait": 25})

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        http.delete("/runs/leaves", params={"run_id": id_of("leaves")}).raise_for_status()
        assert watching.result().json()["code"] == "unknown_run"


@pytest.mark.anyio
async def test_a_client_that_disconnects_ends_its_long_poll(engine: Engine) -> None:
    app = create_app(engine, access=Access())
    messages = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost")]
    scope = {
        "type": "http", "method": "GET", "path": "/runs/default/steps",
        "raw_path": b"/runs/default/steps", "query_string": b"wait=25", "headers": headers,
        "http_version": "1.1", "scheme": "http", "server": ("localhost", 80),
    }  # fmt: skip
    await app(scope, receive, send)

    assert sent[0]["status"] == 499
    await anyio.lowlevel.checkpoint()
    assert vars(app.state.services.long_polls)["_waiting"] == {}


def test_gathering_goes_on_while_samples_are_on_their_way(
    server: RunningServer, http: httpx.Client
) -> None:
    """A request through a tunnel counts: a run that waits for a shard does not end the reply."""
    make_run(http, "gathers")
    first, second = shard(31), shard(32)
    put_segment(http, "gathers", segment(first, second, samples=16))
    advance(http, "gathers", 4)
    put_shard(http, first)

    def watch() -> StepsReply:
        with httpx.Client(base_url=server.address, timeout=60) as other:
            return read_steps(other, "gathers", wait=25, gather=25)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        known = 0
        while known < 2:
            known += len(read_steps(http, "gathers", after=known, wait=20).steps)
        assert read_steps(http, "gathers", after=2).state == "waiting"
        put_shard(http, second)
        assert [row.step for row in watching.result().steps] == [1, 2, 3, 4]
