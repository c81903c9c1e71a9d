"""Whatever happens between client and server, a run comes out as the undisturbed one.

No step twice, none missing, the same weights to the bit.
"""

from pathlib import Path

import numpy as np
import pytest

from omega21 import AsyncClient
from omega21.client.api.api import Api
from omega21.client.events import Event
from omega21.client.http.retry import RetryRules
from omega21.client.store.summary import Summary
from omega21.data.sources.generators import generate
from omega21.protocol.errors import Unreachable
from tests.client.runs import done, stored, tiny, train
from tests.proxies import (
    FAULTS,
    Fault,
    FaultProxy,
    ProxiedRequest,
    fault_proxy,
    random_faults,
)
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

QUICK = RetryRules(attempts=50, first_delay=0.01, longest_delay=0.05)
"""Rules for a link that is broken on purpose: what is tested is what happens, not how long."""


def through(proxy: FaultProxy, server: RunningServer) -> AsyncClient:
    client = AsyncClient(proxy.address, token=server.token)
    client.api = Api(client.api.transport.with_rules(QUICK))
    return client


@pytest.fixture(scope="module")
def undisturbed(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Summary, list[tuple[int, float, str]]]:
    """What comes of the run that the tests disturb."""
    import anyio

    folder = tmp_path_factory.mktemp("undisturbed")

    async def run() -> Summary:
        async with AsyncClient(server.address, token=server.token) as client:
            return done(await train(client, tiny("calm", epochs=2), workdir=folder)).summary

    return anyio.run(run), stored(folder / "calm")


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_second_request_meets_one_kind_of_fault(
    server: RunningServer,
    undisturbed: tuple[Summary, list[tuple[int, float, str]]],
    tmp_path: Path,
    fault: Fault,
) -> None:
    turn = 0

    def every_second(_: ProxiedRequest) -> Fault:
        nonlocal turn
        turn += 1
        return fault if turn % 2 == 0 else "none"

    name = f"every-{fault}"
    async with fault_proxy(server.port, every_second) as proxy, through(proxy, server) as client:
        events = await train(client, tiny(name, epochs=2), workdir=tmp_path)

    summary, rows = undisturbed
    assert proxy.faults[fault] > 5
    assert done(events).summary.weights_sha256 == summary.weights_sha256
    assert done(events).summary.metrics == summary.metrics
    assert stored(tmp_path / name) == rows


@pytest.mark.parametrize("seed", range(3))
async def test_faults_of_all_kinds_at_random(
    server: RunningServer,
    undisturbed: tuple[Summary, list[tuple[int, float, str]]],
    tmp_path: Path,
    seed: int,
) -> None:
    name = f"storm-{seed}"
    faults = random_faults(seed, share=0.4)
    async with fault_proxy(server.port, faults) as proxy, through(proxy, server) as client:
        events = await train(client, tiny(name, epochs=2), workdir=tmp_path)
        state = await client.api.runs.state(name)

    summary, rows = undisturbed
    assert sum(proxy.faults[fault] for fault in FAULTS) > 2
    assert done(events).summary.weights_sha256 == summary.weights_sha256
    assert stored(tmp_path / name) == rows
    assert (state.step, state.segments) == (20, 1)


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_inline_batch_is_trained_once(server: RunningServer, fault: Fault) -> None:
    seen = 0

    def first_three(request: ProxiedRequest) -> Fault:
        nonlocal seen
        if not request.path.startswith("/train_layer2"):
            return "none"
        seen += 1
        return fault if seen <= 3 else "none"

    name = f"inline-{fault}"
    batch = generate("simple", 1, range(8), anomaly_percent=25, features=1600)
    async with fault_proxy(server.port, first_three) as proxy, through(proxy, server) as client:
        await client.api.runs.create(name, config=tiny(name).config())
        trained = await client.train_batch(batch, run=name, epochs=2)
        again = await client.train_batch(batch, run=name)
        state = await client.api.runs.state(name)

    assert (trained.step, again.step, state.step) == (2, 3, 3)


@pytest.mark.parametrize("fault", FAULTS)
async def test_feedback_is_counted_once(server: RunningServer, fault: Fault) -> None:
    seen = 0

    def first_three(request: ProxiedRequest) -> Fault:
        nonlocal seen
        if not request.path.startswith("/feedback"):
            return "none"
        seen += 1
        return fault if seen <= 3 else "none"

    name = f"feedback-{fault}"
    async with fault_proxy(server.port, first_three) as proxy, through(proxy, server) as client:
        await client.api.runs.create(name, config=tiny(name).config())
        for _ in range(2):
            await client.feedback(np.linspace(-1, 1, 16).tolist(), validated=True, run=name)
        status = await client.status(name)

    assert status.estadisticas.feedback.recibido == 2


async def test_each_client_dies_one_request_later_than_the_one_before(
    server: RunningServer,
    undisturbed: tuple[Summary, list[tuple[int, float, str]]],
    tmp_path: Path,
) -> None:
    order = tiny("many-clients", epochs=2)
    last_words: list[str] = []
    async with fault_proxy(server.port, lambda _: "none") as proxy:

        def drop_late_ones(_: ProxiedRequest) -> Fault:
            return "drop" if len(proxy.requests) > len(last_words) else "none"

        proxy.choose = drop_late_ones
        events: list[Event] = []
        while not events:
            proxy.requests.clear()
            try:
                async with through(proxy, server) as client:
                    events = await train(client, order, workdir=tmp_path, patience=0.0)
            except Unreachable as error:
                last_words.append(str(error))

    summary, rows = undisturbed
    assert len(last_words) > 4
    assert "nothing is lost" in last_words[-1]
    assert done(events).summary.weights_sha256 == summary.weights_sha256
    assert stored(tmp_path / "many-clients") == rows
