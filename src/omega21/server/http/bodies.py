"""Reading of request bodies, with limits on size and a check of the media type."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omega21.language import _
from omega21.protocol.errors import BodyTooLarge, Overloaded, UnsupportedEncoding
from omega21.protocol.shards import ENCODING, MAX_SHARD_BYTES, SHARD_MEDIA_TYPE
from omega21.server.http.middleware import HttpMiddleware

JSON_MEDIA_TYPE = "application/json"

JSON_LIMIT = 12 * 2**20
"""Maximum size of a JSON message: a segment with a full list of 100,000 shards has 9.3 MB."""

JSON_PARTS_LIMIT = 400_000
"""Maximum number of values, lists and objects in a JSON message: a full list of shards has 300,000.

Three bytes, `[],`, take 70 in memory, and reporting a wrong value takes a microsecond or two."""

TENSOR_LIMIT = MAX_SHARD_BYTES + 2**20
"""Maximum size of tensors on the wire: those of a shard, and a header."""

BODIES_LIMIT = 256 * 2**20
"""Maximum total size of all request bodies in memory."""

_LINGER_BYTES = 128 * 2**20
_LINGER_SECONDS = 10.0


async def read_body(request: Request, *, limit: int) -> bytes:
    """Read a body. Raises BodyTooLarge as soon as it exceeds `limit` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    chunks = bytearray()
    async for chunk in request.stream():
        if len(chunks) + len(chunk) > limit:
            raise _too_large(limit)
        chunks += chunk
    return bytes(chunks)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        _("the body has more than {limit} bytes, the limit of this call").format(limit=limit),
        hint=_("send it in smaller parts"),
    )


def check_parts(body: bytes, separators: bytes, *, limit: int) -> None:
    """Raise BodyTooLarge for JSON with more than `limit` of these bytes, before it is parsed."""
    if sum(body.count(separator) for separator in separators) > limit:
        raise BodyTooLarge(_("the body has more values than any message"))


def media_type(request: Request, *allowed: str) -> str:
    """Return the body's media type. Raises UnsupportedEncoding when it is not one of `allowed`."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in allowed:
        raise UnsupportedEncoding(
            _("the body is {kind}").format(kind=given[:80])
            if given
            else _("the body has no content type"),
            hint=_("send it as {names}").format(names=_(" or ").join(allowed)),
        )
    return given


def is_compressed(request: Request, *, allowed: bool = True) -> bool:
    """Tell whether the body is in zstd. Raises UnsupportedEncoding for what is not `allowed`."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return False
    if encoding == ENCODING and allowed:
        return True
    raise UnsupportedEncoding(
        _("the body's encoding is {encoding!r}").format(encoding=encoding[:40]),
        hint=_("send it in {encoding} or without an encoding").format(encoding=ENCODING)
        if allowed
        else _("send it without an encoding"),
    )


async def read_tensors(request: Request) -> tuple[bytes, bool]:
    """Read a body of tensors, and tell whether it is compressed."""
    media_type(request, SHARD_MEDIA_TYPE)
    compressed = is_compressed(request)
    return await read_body(request, limit=TENSOR_LIMIT), compressed


class MessageRoute(APIRoute):
    """A route with a size limit for its JSON message, which must have the media type of JSON.

    FastAPI itself reads bodies without a limit.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, wrapped in one that reads the body."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_then_handle(request: Request) -> Response:
            media_type(request, JSON_MEDIA_TYPE)
            is_compressed(request, allowed=False)
            body = await read_body(request, limit=JSON_LIMIT)
            check_parts(body, b",[{", limit=JSON_PARTS_LIMIT)
            return await handle(Request(request.scope, _replay(body, request.receive)))

        return read_then_handle


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


class BodyRoom:
    """ASGI middleware: limits the total size of request bodies in memory.

    Each body has its own limit; without this one, a hundred concurrent uploads would take 6.5 GB.
    """

    def __init__(self, app: ASGIApp, limit: int = BODIES_LIMIT) -> None:
        self.app = app
        self.limit = limit
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, and count its body until it is answered."""
        held = 0

        async def receive_counted() -> Message:
            nonlocal held
            message = await receive()
            size = len(message.get("body", b""))
            if size and self._held + size > self.limit:
                raise Overloaded(_("the server cannot receive more uploads at once"), retry_after=1)
            held += size
            self._held += size
            return message

        try:
            await self.app(scope, receive_counted, send)
        finally:
            self._held -= held


class Lingering(HttpMiddleware):
    """ASGI middleware: lets a client that is still sending read the refusal.

    Closing a connection with unread bytes resets it, and the reset discards a reply that the client
    has not read yet. So the rest of a refused body is read and discarded, within limits, between
    the reply's last byte and its end.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, and read its body to the end."""
        unread = True
        refused = False

        async def receive_watched() -> Message:
            nonlocal unread
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                unread = False
            return message

        async def send_lingering(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = message["status"] >= 400
            elif refused and unread and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await _discard(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self.app(scope, receive_watched, send_lingering)


async def _discard(receive: Receive) -> None:
    discarded = 0
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while discarded < _LINGER_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                discarded += len(message.get("body", b""))
    except TimeoutError:
        return
