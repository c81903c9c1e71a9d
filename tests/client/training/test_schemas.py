"""A run whose samples are of another width goes the whole way: train, finish, verify, predict."""

from pathlib import Path

import numpy as np
import pytest

from omega21 import AsyncClient
from omega21.client.events import StepsDone
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.options import TrainOptions
from omega21.data.sources.generators import generate
from omega21.models.corteza.config import TINY, task
from omega21.protocol.errors import InvalidSamples, OtherConfig
from omega21.protocol.shards import samples_per_shard
from tests.client.runs import done, tiny, train
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio
NARROW = task(TINY.model_copy(update={"features": 128}))
WIDE = generate("simple", 1, range(4), anomaly_percent=50, features=1600)
X, Y = generate("simple", 3, range(600), anomaly_percent=20, features=128)


async def test_generated_samples_of_another_width(
    server: RunningServer, other_server: RunningServer, tmp_path: Path
) -> None:
    order = tiny("narrow", task=NARROW, samples=4000, epochs=2, validation=3500, micro_batch=50)
    async with (
        AsyncClient(server.address, token=server.token) as client,
        client.train(order, TrainOptions(workdir=tmp_path)) as events,
    ):
        async for event in events:
            if isinstance(event, StepsDone):
                break
    async with AsyncClient(other_server.address, token=other_server.token) as client:
        async with client.resume("narrow", TrainOptions(workdir=tmp_path)) as events:
            finished = [event async for event in events]
        verified = await client.verify("narrow", workdir=tmp_path)
        with pytest.raises(InvalidSamples, match="expected 128 features, got 1600"):
            await client.train_batch(WIDE, run="narrow")

    assert done(finished).summary.validation_samples == 3500
    assert (verified.first, verified.last) == (1, 126)
    with RunFolder.open(tmp_path / "narrow") as folder:
        most = samples_per_shard(folder.record.config.sample_schema)
        assert [ref.samples for ref in folder.segments[0].shards] == [most, 4000 - most]


async def test_arrays_of_another_width(server: RunningServer, tmp_path: Path) -> None:
    async with AsyncClient(server.address, token=server.token) as client:
        order = tiny("narrow-file", task=NARROW, data=(X, Y), samples=500, validation=100)
        events = await train(client, order, workdir=tmp_path)
        whole = await client.predict("narrow-file", X)
        by_name = await client.predict("narrow-file", {"x": X[:10].astype(np.float64)})
        evaluation = await client.evaluate("narrow-file", (X, Y))
        with pytest.raises(InvalidSamples, match=r"x has shape \[600, 64\], expected \[n, 128\]"):
            await client.predict("narrow-file", X[:, :64])
        with pytest.raises(InvalidSamples, match="neither 0 nor 1, sample 0"):
            await client.evaluate("narrow-file", (X, Y + 2))
        with pytest.raises(OtherConfig, match=r"sample_schema.inputs.x.shape.* asked for \[1600\]"):
            await train(client, tiny("narrow-file"), workdir=tmp_path)

    assert done(events).summary.samples == 500
    assert len(whole) == evaluation.samples == 600
    np.testing.assert_allclose(by_name["anomaly_prob"], whole["anomaly_prob"][:10], rtol=1e-4)
