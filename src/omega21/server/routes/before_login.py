"""What the calls that are open without a token share: small bodies, parsed by hand.

pydantic's errors quote the input, which here is a token or a challenge about one.
"""

from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from omega21.protocol.errors import InvalidRequest
from omega21.server.auth.access import Access
from omega21.server.http.bodies import JSON_MEDIA_TYPE, is_compressed, media_type, read_body

LIMIT: Final = 4096
"""Maximum size of a body, in bytes: it is read before authentication."""

_Message = TypeVar("_Message", bound=BaseModel)


async def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


AccessHere = Annotated[Access, Depends(_access)]


def described_body(message: type[BaseModel], example: object) -> dict[str, Any]:
    """Describe a body that FastAPI does not parse, for the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{message.__name__}"}
    content = {JSON_MEDIA_TYPE: {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


async def read_message(
    request: Request, message: type[_Message], *, refused: str, hint: str
) -> _Message:
    """Read a small message. Raises InvalidRequest, BodyTooLarge, UnsupportedEncoding."""
    media_type(request, JSON_MEDIA_TYPE)
    is_compressed(request, allowed=False)
    body = await read_body(request, limit=LIMIT)
    try:
        return message.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequest(refused, hint=hint) from error
