"""Shards: blocks of samples, stored on the server under their digest."""

from collections.abc import Sequence
from typing import Final

from omega21.client.api.endpoint import Endpoint
from omega21.protocol.shards import (
    ENCODING,
    SHARD_MEDIA_TYPE,
    MissingReply,
    MissingRequest,
    ShardStored,
)

SHARD_HEADERS: Final = {"Content-Type": SHARD_MEDIA_TYPE, "Content-Encoding": ENCODING}
_MISSING_AT_ONCE: Final = 10_000


class Shards(Endpoint):
    """Calls about shards."""

    async def put(self, sha256: str, body: bytes) -> ShardStored:
        """Upload an encoded shard under its digest; on the server's disk when it returns.

        Raises InvalidShard, StorageFull.
        """
        path = f"/shards/{sha256}"
        return await self._call(ShardStored, "PUT", path, headers=SHARD_HEADERS, body=body)

    async def missing(self, shards: Sequence[str]) -> list[str]:
        """Return which of these shards the server lacks, in order."""
        missing: list[str] = []
        for start in range(0, len(shards), _MISSING_AT_ONCE):
            body = MissingRequest(shards=list(shards[start : start + _MISSING_AT_ONCE]))
            reply = await self._call(MissingReply, "POST", "/shards/missing", body=body)
            missing += reply.missing
        return missing
