"""Requests that a training through a tunnel takes beside its shards."""

from pathlib import Path

import anyio
import httpx
import pytest

from omega21 import AsyncClient
from omega21.client.events import RunReady, UploadProgress
from tests.carriers import NGROK, TunnelCarrier
from tests.client.runs import done, tiny, train
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

ADDRESS = NGROK.replace("http:", "https:")
SHARDS = 12


class Counting(TunnelCarrier):
    """Notes each request, and how many shards its list has, where it carries one."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.requests: list[str] = []
        self.lists: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if "/plan/" in request.url.path:
            self.lists.append((await request.aread()).count(b'"sha256"'))
        request.url = request.url.copy_with(scheme="http")
        return await super().handle_async_request(request)


async def test_lists_double_so_that_a_few_are_enough(server: RunningServer, tmp_path: Path) -> None:
    carrier = Counting(server.address)
    order = tiny("lists", samples=256 * SHARDS, batch_size=4096, validation=0)
    async with AsyncClient(ADDRESS, token=server.token, transport=carrier) as client:
        events = await train(client, order, workdir=tmp_path)
    assert done(events).summary.samples == 256 * SHARDS
    assert carrier.lists[0] == 1
    assert carrier.lists[-1] == SHARDS
    for before, after in zip(carrier.lists, carrier.lists[1:-1], strict=False):
        assert after >= 2 * before
    uploads = [asked for asked in carrier.requests if asked.startswith("PUT /shards/")]
    assert len(uploads) == len(set(uploads)) == SHARDS


class SlowToAdvance(TunnelCarrier):
    """Holds the answer that raises the target back until a shard is on its way."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.shard_sent = anyio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if "/shards/" in request.url.path:
            self.shard_sent.set()
        response = await super().handle_async_request(request)
        if request.url.path.endswith("/advance"):
            await self.shard_sent.wait()
        return response


async def test_samples_go_up_while_the_target_is_raised_and_are_told_after(
    server: RunningServer, tmp_path: Path
) -> None:
    carrier = SlowToAdvance(server.address)
    async with AsyncClient(ADDRESS, token=server.token, transport=carrier) as client:
        events = await train(client, tiny("soon", samples=512, validation=0), workdir=tmp_path)
    kinds = [type(event) for event in events]
    assert kinds.index(RunReady) < kinds.index(UploadProgress)
    assert done(events).summary.samples == 512
