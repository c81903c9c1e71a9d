"""Run folders for tests of what is done with them, without a server."""

from pathlib import Path

from omega21.client.store.run_folder import RunFolder, RunRecord
from omega21.data.order import presentation_order
from omega21.data.sources.generators import generate
from omega21.models.registry import default_config
from omega21.protocol.digests import CHAIN_START, chain_result, tensors_sha256
from omega21.protocol.plan import Segment, ShardRef, Source
from omega21.protocol.shards import encode_shard
from omega21.protocol.steps import StepRecord


def make_run(workdir: Path, name: str) -> Path:
    """Make the folder of a run that trained one step of four samples."""
    source = Source(kind="simple", seed=42, offset=0, anomaly_percent=10)
    order = presentation_order(42, offset=0, samples=4)
    tensors = generate("simple", 42, order, anomaly_percent=10, features=1600).tensors
    sha256 = tensors_sha256(tensors)
    record = RunRecord(run=name, id="a" * 32, config=default_config(), created_at=1.0)
    with RunFolder.create(workdir / name, record) as folder:
        folder.put_shard(sha256, encode_shard(tensors))
        segment = Segment(
            samples=4,
            batch_size=4,
            epochs=1,
            source=source,
            shards=(ShardRef(sha256=sha256, samples=4),),
        )
        folder.put_segment(0, segment)
        digest = chain_result(CHAIN_START, 1, 0.5)
        folder.results.put(
            [StepRecord(step=1, loss=0.5, samples=4, digest=digest, ended_at=2.0, seconds=0.1)]
        )
    return workdir / name
