"""Uploaded shards: checked against the plans that list them, and stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from omega21.engine.registry import Registry
from omega21.engine.samples import check_listed
from omega21.engine.storage.data_folder import DataFolder
from omega21.protocol.shards import ShardStored, decode_shard, shard_samples


@dataclass(frozen=True)
class Shards:
    """Stores shards. Asking for a shard counts as use."""

    registry: Registry
    folder: DataFolder

    def put(self, sha256: str, body: bytes, *, compressed: bool) -> ShardStored:
        """Store a shard; the same again changes nothing. Durable.

        Raises InvalidShard, BodyTooLarge, InvalidSamples when a plan that lists it cannot use it,
        StorageFull.
        """
        tensors = decode_shard(body, compressed=compressed)
        with self.registry.locked():
            listings = [
                (run, segment, ref)
                for run in self.registry.all()
                for segment in run.segments
                for ref in segment.shards
                if ref.sha256 == sha256
            ]
        for run, segment, ref in listings:
            check_listed(tensors, ref, run=run.name, segment=segment, config=run.config)
        stored = self.folder.shards.put(sha256, tensors, pinned=self.registry.pinned_shards)
        for run, _segment, _ref in listings:
            self.registry.changed(run.name)
        size = sum(array.nbytes for array in tensors.values())
        return ShardStored(sha256=sha256, samples=shard_samples(tensors), bytes=size, stored=stored)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self.folder.shards

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the shards in `names` that are missing."""
        return [name for name in names if name not in self]
