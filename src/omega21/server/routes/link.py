"""The call that measures the link: discards the body, and returns random bytes."""

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from omega21.language import _
from omega21.protocol.errors import BodyTooLarge
from omega21.protocol.link.probe import LINK_MEDIA_TYPE, MAX_LINK_BYTES
from omega21.server.http.errors import problems

router = APIRouter(tags=["server"])

_CHUNK: Final = 2**16
_BYTES: Final[dict[str, Any]] = {
    "content": {LINK_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
}
_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "`down` random bytes", **_BYTES}
}


@router.post(
    "/link",
    response_class=StreamingResponse,
    openapi_extra={"requestBody": {"required": False, **_BYTES}},
    responses=_ANSWER | problems(BodyTooLarge),
)
async def measure_link(
    request: Request,
    down: Annotated[int, Query(ge=0, le=MAX_LINK_BYTES, description="bytes to answer with")] = 0,
) -> StreamingResponse:
    """Discard a body of at most 8 MiB, and return the requested number of random bytes."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > MAX_LINK_BYTES:
            raise BodyTooLarge(
                _("the body has more than {limit} bytes, the limit of this call").format(
                    limit=MAX_LINK_BYTES
                ),
                hint=_("measure with fewer bytes"),
            )
    return StreamingResponse(
        _random_bytes(down), media_type=LINK_MEDIA_TYPE, headers={"Content-Length": str(down)}
    )


async def _random_bytes(count: int) -> AsyncIterator[bytes]:
    """Yield incompressible bytes."""
    for start in range(0, count, _CHUNK):
        yield os.urandom(min(_CHUNK, count - start))
