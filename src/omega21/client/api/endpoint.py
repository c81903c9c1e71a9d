"""The base of all calls: send a request, return a checked message."""

import secrets
from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from omega21.client.http.transport import Request, Transport
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.names import checked_name

_Message = TypeVar("_Message", bound=BaseModel)
_NONE: Final[Mapping[str, str]] = {}


class Endpoint:
    """The calls about one noun, over one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def _call(
        self,
        reply: type[_Message],
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | float] = _NONE,
        headers: Mapping[str, str] = _NONE,
        body: BaseModel | bytes | None = None,
        max_bytes: int | None = None,
    ) -> _Message:
        """Send a request, a message as JSON, and read the reply."""
        if isinstance(body, BaseModel):
            headers = {"Content-Type": "application/json", **headers}
            body = body.model_dump_json().encode()
        request = Request(
            method=method, path=path, query=query, headers=headers, body=body, max_bytes=max_bytes
        )
        return (await self._transport.send(request)).read(reply)


def run_path(run: str) -> str:
    """Return the path of a run. Raises InvalidRequest for an invalid name."""
    return f"/runs/{checked_name(run)}"


def idempotency_key(key: str | None) -> dict[str, str]:
    """Return the Idempotency-Key header, with a random key by default."""
    return {"Idempotency-Key": key or secrets.token_hex(16)}


def make_request(message: type[_Message], **fields: object) -> _Message:
    """Build the body of a request. Raises InvalidRequest, before anything is sent."""
    try:
        return message.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{where}: {first['msg']}") from error
