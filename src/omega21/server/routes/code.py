"""The user's source: upload by content, download, and what the server offers itself."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from omega21.protocol.errors import (
    BodyTooLarge,
    CodeNotAllowed,
    InvalidCode,
    StorageFull,
    UnknownCode,
    UnsupportedEncoding,
)
from omega21.protocol.names import Sha256
from omega21.protocol.tasks.code import (
    CODE_MEDIA_TYPE,
    MAX_CODE_BYTES,
    CodeReply,
    CodeStored,
    MissingCodeReply,
    MissingCodeRequest,
)
from omega21.server.auth.code_upload import check_code_upload
from omega21.server.http.bodies import MessageRoute, is_compressed, media_type, read_body
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import body, reply
from omega21.server.routes.before_login import AccessHere
from omega21.server.services import ServicesHere

router = APIRouter(tags=["code"], route_class=MessageRoute)

CodeName = Annotated[Sha256, Path(description="the digest of the source's files")]
_BODY: Final[dict[str, Any]] = {
    CODE_MEDIA_TYPE: {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "one zstd frame: a list of paths and sizes, then the files",
        }
    }
}
_SOURCE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The source, as it was sent", "content": _BODY}
}


@router.get("/code", responses=reply(examples.CODE_REPLY) | problems())
def describe_code(services: ServicesHere) -> CodeReply:
    """Return which source is allowed here, and which the server itself was started with."""
    return services.engine.code.describe()


@router.put(
    "/code/{sha256}",
    openapi_extra={"requestBody": {"required": True, "content": _BODY}},
    responses=reply(examples.CODE_STORED, "The source was there already")
    | reply(examples.CODE_STORED, "The source is on disk", status=201, model=CodeStored)
    | problems(CodeNotAllowed, InvalidCode, BodyTooLarge, UnsupportedEncoding, StorageFull),
)
async def put_code(
    request: Request,
    services: ServicesHere,
    access: AccessHere,
    *,
    sha256: CodeName,
    response: Response,
) -> CodeStored:
    """Store a source; one that exists changes nothing. With the token, over TLS or loopback."""
    services.engine.code.check_allowed(sha256)
    check_code_upload(access, request.scope)
    services.uploads.check_room()
    media_type(request, CODE_MEDIA_TYPE)
    is_compressed(request, allowed=False)  # it is a compressed frame itself
    data = await read_body(request, limit=MAX_CODE_BYTES + 2**20)
    stored = await services.uploads.run(services.engine.code.put, sha256, data)
    response.status_code = 201 if stored.stored else 200
    return stored


@router.get(
    "/code/{sha256}",
    response_class=Response,
    responses=_SOURCE | problems(UnknownCode),
)
def get_code(services: ServicesHere, sha256: CodeName) -> Response:
    """Return a source, as it was sent."""
    return Response(services.engine.code.read(sha256), media_type=CODE_MEDIA_TYPE)


@router.post(
    "/code/missing",
    responses=reply(examples.MISSING_REPLY) | problems(BodyTooLarge, UnsupportedEncoding),
)
def missing_code(
    services: ServicesHere, asked: Annotated[MissingCodeRequest, body(examples.MISSING_CODE)]
) -> MissingCodeReply:
    """Return which of these sources the server lacks, in the order given."""
    return MissingCodeReply(missing=services.engine.code.missing(asked.code))
