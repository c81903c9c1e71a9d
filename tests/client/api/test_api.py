"""The single HTTP calls: what is refused before anything is sent, and what a reply may hold."""

import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from omega21.client.api.api import Api
from omega21.client.api.endpoint import Endpoint
from omega21.client.http.link import Link
from omega21.client.http.retry import RetryRules
from omega21.client.http.transport import Transport
from omega21.data.samples import Samples
from omega21.protocol.checkpoints import RestoreCheckpoint
from omega21.protocol.errors import InternalError, InvalidReply, InvalidRequest, NotFound
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.plan import Segment, Source
from tests.proxies import canned, reply
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
ARGUMENTS: dict[str, Any] = {
    "run": "../etc",
    "run_id": "1" * 32,
    "to": 1,
    "number": 0,
    "segment": Segment(
        samples=4,
        batch_size=4,
        epochs=1,
        source=Source(kind="simple", seed=1, offset=0, anomaly_percent=10),
    ),
    "sink": None,
    "points": 48,
    "part": "full",
    "sha256": "0" * 64,
    "body": b"",
    "request": RestoreCheckpoint(run_id="1" * 32, sha256="0" * 64, bytes=1, parts=["0" * 64]),
    "shards": ["0" * 64],
    "evaluation": Evaluation(
        step=1,
        samples=1,
        loss=None,
        metrics={"accuracy": None},
    ),
    "samples": Samples(np.zeros((1, 1600), np.float32), np.zeros(1, np.float32)),
    "adjustments": [0.0] * 16,
    "validated": True,
}


def calls_that_name_a_run() -> dict[str, Callable[..., Any]]:
    calls = {
        f"{noun}.{name}": getattr(endpoint, name)
        for noun, endpoint in vars(Api(Transport(NOWHERE))).items()
        if isinstance(endpoint, Endpoint)
        for name in vars(type(endpoint))
        if not name.startswith("_")
    }
    return {
        name: call for name, call in calls.items() if "run" in inspect.signature(call).parameters
    }


async def awaited(called: Awaitable[object] | AsyncGenerator[object, None]) -> None:
    await (anext(called) if isinstance(called, AsyncGenerator) else called)


@pytest.mark.parametrize("call", calls_that_name_a_run().values(), ids=calls_that_name_a_run())
async def test_a_name_that_no_run_has_never_becomes_part_of_an_address(
    call: Callable[..., Any],
) -> None:
    wanted = {
        name: ARGUMENTS[name]
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.default is parameter.empty or name == "run"
    }
    with pytest.raises(InvalidRequest, match="not a run name"):
        await awaited(call(**wanted))


async def test_patient_and_hurried_calls_share_connections_and_counters() -> None:
    async with Api(Transport(NOWHERE)) as api:
        for other in (api.patient(60.0), api.hurried(1.0)):
            assert other.address == api.address
            assert other.profile is api.profile
            assert other.transport.traffic is api.transport.traffic
            assert isinstance(other.transport.link, Link)
            assert other.transport.link is not api.transport.link


async def test_patient_calls_keep_the_other_rules() -> None:
    problem = '{"code": "internal_error", "detail": "broken", "status": 500, "title": "Broken"}'
    rules = RetryRules(attempts=2, first_delay=0.001, longest_delay=0.002)
    async with (
        canned(reply(500, problem, media_type="application/problem+json")) as broken,
        Api(Transport(broken.address, rules=rules)) as api,
    ):
        with pytest.raises(InternalError):
            await api.patient(60.0).connect()
    assert broken.requests is not None
    assert len(broken.requests) == 2


async def test_the_link_is_probed_in_both_directions(server: RunningServer) -> None:
    async with Api(Transport(server.address, token=server.token)) as api:
        before = api.transport.traffic.bytes_sent, api.transport.traffic.bytes_received
        await api.server.probe_link(body=b"x" * 10_000)
        await api.server.probe_link(down=20_000)
        assert api.transport.traffic.bytes_sent - before[0] > 10_000
        assert api.transport.traffic.bytes_received - before[1] > 20_000


async def test_an_older_server_has_no_probe() -> None:
    problem = '{"code": "not_found", "detail": "no such page", "status": 404, "title": "Not found"}'
    async with (
        canned(reply(404, problem, media_type="application/problem+json")) as older,
        Api(Transport(older.address)) as api,
    ):
        with pytest.raises(NotFound):
            await api.server.probe_link(down=1)


@pytest.mark.parametrize(
    ("numbers", "after"), [((2, 1), 0), ((1, 1), 0), ((3,), 3), ((1, 2), 5)], ids=str
)
async def test_evaluations_that_are_not_ascending_are_refused(
    numbers: tuple[int, ...], after: int
) -> None:
    metrics = ARGUMENTS["evaluation"].model_dump()
    rows = [{**metrics, "number": number, "at": 0.0} for number in numbers]
    async with (
        canned(reply(200, json.dumps({"run": "r", "evaluations": rows}))) as server,
        Api(Transport(server.address)) as api,
    ):
        with pytest.raises(InvalidReply, match=f"after number {after} are not ascending"):
            await api.evaluations.read("r", after=after)
