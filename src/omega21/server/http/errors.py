"""Conversion of exceptions to replies: always a problem document, never a traceback or a 200."""

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from omega21.language import _, current_language, speaking
from omega21.language.borrowed import translated
from omega21.logs import log_context
from omega21.protocol.errors import (
    PROBLEM_MEDIA_TYPE,
    ForeignOrigin,
    HeadTooLarge,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OmegaError,
    Overloaded,
    RequestRefused,
    SlowRequest,
    StorageFull,
    TooManyAttempts,
    Unauthorized,
    Unavailable,
    to_problem,
)
from omega21.protocol.printable import printable
from omega21.server.http.middleware import HttpMiddleware
from omega21.server.http.unauthenticated import is_unauthenticated

logger = logging.getLogger(__name__)

PROBLEM_SCHEMA = "Problem"
_EVERYWHERE: tuple[type[OmegaError], ...] = (
    RequestRefused,
    Unauthorized,
    TooManyAttempts,
    ForeignOrigin,
    SlowRequest,
    InvalidRequest,
    HeadTooLarge,
    Overloaded,
    InternalError,
    Unavailable,
)
_LONGEST_SHOWN = 300  # of a path in the log
_LONGEST_UNAUTHENTICATED = 80
_CLIENT_CLOSED = 499  # nobody reads it: the client has disconnected


def problem_response(error: OmegaError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the reply for `error`, with the headers of its kind."""
    sent = {**(headers or {}), "Content-Language": current_language()}
    if error.retry_after is not None:
        sent["Retry-After"] = str(max(1, round(error.retry_after)))
    return Response(
        to_problem(error).model_dump_json(),
        status_code=error.http_status,
        headers=sent,
        media_type=PROBLEM_MEDIA_TYPE,
    )


def problems(*classes: type[OmegaError]) -> dict[int | str, dict[str, Any]]:
    """Declare the errors of a call, in addition to those of every call."""
    by_status: dict[int | str, list[type[OmegaError]]] = {}
    for cls in dict.fromkeys((*classes, *_EVERYWHERE)):
        by_status.setdefault(cls.http_status, []).append(cls)
    return {status: _describe(group) for status, group in sorted(by_status.items(), key=str)}


def _describe(classes: Sequence[type[OmegaError]]) -> dict[str, Any]:
    meanings = [f"`{cls.code}`: {(cls.__doc__ or '').partition(chr(10))[0]}" for cls in classes]
    with speaking("en"):  # the OpenAPI document is the same in every locale
        examples = {
            cls.code: {"value": to_problem(cls("what is wrong, and where")).model_dump()}
            for cls in classes
        }
    schema = {"$ref": f"#/components/schemas/{PROBLEM_SCHEMA}"}
    return {
        "description": "\n\n".join(meanings),
        "content": {PROBLEM_MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def describe_invalid(errors: Sequence[Any]) -> str:
    """Describe the first invalid field in one line.

    `errors` are pydantic's: dictionaries with `type`, `loc`, `msg`, `input` and perhaps `ctx`.
    """
    first = errors[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "json_invalid":
        # FastAPI's location is the position of the JSON error.
        where = _(" (character {number})").format(number=place[-1]) if len(place) > 1 else ""
        error = first.get("ctx", {}).get("error")
        return _("the body is not valid JSON: {error}").format(error=f"{error}{where}")
    field = ".".join(place[1:] or place)
    message = translated(str(first["msg"]).removeprefix("Value error, "))
    given = first.get("input")
    is_short = isinstance(given, str | int | float)
    shown = _(", got {given!r}").format(given=str(given)[:60]) if is_short else ""
    more = _(" (and {count} more)").format(count=len(errors) - 1) if len(errors) > 1 else ""
    return f"{field}: {message}{shown}{more}"


async def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, OmegaError)
    if isinstance(error, StorageFull):
        logger.warning("the disk is full: %s", error.message)
    return problem_response(error)


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    hint = _("see /docs for the parameters of this call")
    return problem_response(InvalidRequest(describe_invalid(error.errors()), hint=hint))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # As it was sent: decoded, it may hold line breaks, and together with the Host be no URL at all.
    call = f"{request.method} {request.scope['raw_path'][:200].decode('ascii')}"
    match error.status_code:
        case 404:
            return problem_response(NotFound(_("there is no {call}").format(call=call)))
        case 405:
            return problem_response(
                MethodNotAllowed(_("there is no {call}").format(call=call)), error.headers
            )
        case _:
            return problem_response(InvalidRequest(str(error.detail)))


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED)


def install(app: FastAPI) -> None:
    """Install exception handlers in `app` that answer with problem documents."""
    app.add_exception_handler(OmegaError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)


class LastHandler(HttpMiddleware):
    """ASGI middleware: assigns ids, logs each request, and handles unexpected exceptions.

    Lines that are logged meanwhile have the request's id and run. A traceback goes to the log; the
    client gets the id and a stable code.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, and answer if that fails."""
        request_id = secrets.token_hex(8)
        with log_context(request=request_id, run=_run_of(scope)):
            await self._answer(scope, receive, send, request_id=request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *, request_id: str) -> None:
        status = _CLIENT_CLOSED
        start = time.monotonic()
        started = False

        async def send_named(message: Message) -> None:
            nonlocal started, status
            if message["type"] == "http.response.start":
                started, status = True, message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_named)
        except Exception:
            logger.exception("request %s, %s", request_id, _shown(scope))
            if started:
                raise  # too late for another reply: the server closes the connection
            reply = problem_response(
                InternalError(_("request {request_id} failed").format(request_id=request_id))
            )
            await reply(scope, receive, send_named)
        finally:
            milliseconds = 1000 * (time.monotonic() - start)
            line = "%s -> %d (%.0f ms)"
            logger.info(line, _shown(scope), status, milliseconds, extra={"status": status})


def _shown(scope: Scope) -> str:
    """Return a request's method and path for the log; an unauthenticated request's is truncated.

    As sent: decoded, a path may contain line breaks. Without the query, which may contain private
    data.
    """
    call = f"{scope['method']} {scope['raw_path'].decode('ascii', 'backslashreplace')}"
    most = _LONGEST_UNAUTHENTICATED if is_unauthenticated() else _LONGEST_SHOWN
    return call if len(call) <= most else f"{call[:most]}…"


def _run_of(scope: Scope) -> str | None:
    """Return the run in a request's path or query; None if it has none."""
    first, _, rest = scope["path"].removeprefix("/").partition("/")
    if first == "runs":
        return printable(rest.partition("/")[0], most=80) or None
    named = parse_qs(scope["query_string"].decode("latin-1")).get("run")
    return printable(named[0], most=80) if named else None
