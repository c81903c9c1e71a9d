"""A task is checked on a real server before its samples go up; whatever it does, no run is made."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from omega21.client.api.api import Api
from omega21.client.http.transport import Transport
from omega21.models.corteza import config as corteza
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import (
    ImportFailed,
    InvalidSamples,
    OmegaError,
    TaskFailed,
    UnknownShard,
)
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.runs import RunConfig
from omega21.protocol.shards import encode_shard
from omega21.protocol.tasks.probe import ProbeFound
from tests.models.code.sources import Arrays, Sources, make_batch, run_config, schema
from tests.servers import RunningServer, start_server

pytestmark = pytest.mark.anyio

IMAGES = schema({"x": ("float32", (1, 4, 4))}, {"y": ("int64", ())})
NET = "from torch import nn\n\ndef build(schema):\n    return nn.Sequential(nn.Flatten(), %s)\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data_dir = tmp_path_factory.mktemp("server") / "data"
    with start_server(data_dir, "--device", "cpu", "--threads", "1", "--allow-code") as running:
        yield running


@pytest.fixture
async def api(server: RunningServer) -> AsyncIterator[Api]:
    async with Api(Transport(server.address, token=server.token)) as api:
        yield api


@pytest.fixture
def sources(server: RunningServer) -> Sources:
    return Sources(Path(server.data_dir) / "code")


async def put(api: Api, batch: Arrays) -> str:
    sha256 = tensors_sha256(batch)
    await api.shards.put(sha256, encode_shard(batch))
    return sha256


async def check(api: Api, config: RunConfig, shard: str) -> ProbeFound:
    found = (await api.probe.run(config, shard=shard)).found
    assert found is not None
    return found


def net(sources: Sources, layer: str) -> RunConfig:
    return run_config(sources.add({"net.py": NET % layer}), IMAGES)


async def test_it_tells_what_there_is_to_train(api: Api, sources: Sources) -> None:
    config = run_config(sources.add_net("batch_norm"), IMAGES)
    shard = await put(api, make_batch(IMAGES, 2))
    found = await check(api, config, shard)
    assert found.trained_parameters == found.parameters > 600
    assert found.differs is None
    assert set(found.metrics) == {"accuracy"}
    assert found.predictions["probability"].shape == (10,)
    assert await check(api, config, shard) == found


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("nn.Linear(15, 10)", TaskFailed, "mat1 and mat2 shapes cannot be multiplied"),
        ("nn.Linear(16, 10 / 0)", TaskFailed, r"net\.py:4: ZeroDivisionError"),
        ("__import__('absent_package')", ImportFailed, r"net\.py:4: .*absent_package.*server has"),
        ("nn.Linear(16, 2)", TaskFailed, r"loss cross_entropy: .*out of bounds"),
    ],
)
async def test_what_fails_is_named_and_nothing_else_changes(
    api: Api, sources: Sources, layer: str, error: type[OmegaError], message: str
) -> None:
    batch = make_batch(IMAGES, 2)
    batch["y"][0] = 9
    shard, before = await put(api, batch), await api.runs.all()
    with pytest.raises(error, match=message) as failed:
        await api.probe.run(net(sources, layer), shard=shard)
    assert type(failed.value) is error
    assert await api.runs.all() == before
    assert (await check(api, net(sources, "nn.Linear(16, 10)"), shard)).differs is None


async def test_samples_that_are_not_there_or_of_another_schema(api: Api, sources: Sources) -> None:
    config = net(sources, "nn.Linear(16, 10)")
    with pytest.raises(UnknownShard):
        await api.probe.run(config, shard="0" * 64)
    many = await put(api, make_batch(IMAGES, 9))
    with pytest.raises(InvalidSamples, match="at most 8 samples, got 9"):
        await api.probe.run(config, shard=many)
    for name, array in (("x", np.zeros((2, 4), np.float32)), ("y", np.zeros(2, np.float32))):
        other = await put(api, {**make_batch(IMAGES, 2), name: array})
        with pytest.raises(InvalidSamples, match=rf"tensor {name} is .*, expected .* \["):
            await api.probe.run(config, shard=other)


async def test_a_built_in_task_can_be_checked_too(api: Api) -> None:
    config = corteza.run_config(corteza.TINY, optimizer=OptimizerConfig(name="sgd", momentum=0.9))
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 1600)).astype(np.float32)
    shard = await put(api, {"x": x, "y": np.array([0, 1], np.float32)})
    assert (await check(api, config, shard)).alone is None
