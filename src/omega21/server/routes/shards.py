"""Shards: upload by content, ask which are missing."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from omega21.language import _
from omega21.protocol.errors import (
    BodyTooLarge,
    InvalidShard,
    StorageFull,
    UnknownShard,
    UnsupportedEncoding,
)
from omega21.protocol.names import Sha256
from omega21.protocol.shards import MissingReply, MissingRequest, ShardStored
from omega21.server.http.bodies import MessageRoute, read_tensors
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import body, reply, tensors
from omega21.server.services import ServicesHere

router = APIRouter(tags=["shards"], route_class=MessageRoute)

ShardName = Annotated[Sha256, Path(description="the digest of the shard's tensors")]


@router.put(
    "/shards/{sha256}",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": tensors("a shard, by default `x` and `y`; in zstd or not"),
        }
    },
    responses=reply(examples.SHARD_STORED, "The shard was there already")
    | reply(examples.SHARD_STORED, "The shard is on disk", status=201, model=ShardStored)
    | problems(InvalidShard, BodyTooLarge, UnsupportedEncoding, StorageFull),
)
async def put_shard(
    request: Request, services: ServicesHere, *, sha256: ShardName, response: Response
) -> ShardStored:
    """Store a shard; one that exists changes nothing. At most 64 MiB of tensors."""
    services.uploads.check_room()
    data, compressed = await read_tensors(request)
    stored = await services.uploads.run(
        services.engine.shards.put, sha256, data, compressed=compressed
    )
    response.status_code = 201 if stored.stored else 200
    return stored


@router.head("/shards/{sha256}", responses=problems(UnknownShard), response_class=Response)
def has_shard(services: ServicesHere, sha256: ShardName) -> Response:
    """Return by the status whether the server has the shard."""
    if sha256 not in services.engine.shards:
        raise UnknownShard(_("shard {sha256} is not on this server").format(sha256=sha256[:12]))
    return Response()


@router.post(
    "/shards/missing",
    responses=reply(examples.MISSING_REPLY) | problems(BodyTooLarge, UnsupportedEncoding),
)
def missing_shards(
    services: ServicesHere, asked: Annotated[MissingRequest, body(examples.MISSING_REQUEST)]
) -> MissingReply:
    """Return which of these shards the server lacks, in the order given."""
    return MissingReply(missing=services.engine.shards.missing(asked.shards))
