"""The transport: sends a request and returns the response, or raises an OmegaError.

A failure is classified once (`retry`), retried where that helps, and every exception of the HTTP
library is mapped here. Tests and other transports plug in as `httpx.AsyncBaseTransport`.

The logger `omega21.http` logs each request at level INFO, without its headers, which have the
token.
"""

import logging
import os
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Protocol, Self, TypeVar

import anyio
import httpx
from pydantic import BaseModel, ValidationError

from omega21.client.http.address import check_encrypted, parse_address
from omega21.client.http.decoding import (
    ACCEPTED_ENCODINGS,
    Deadline,
    check_numbers,
    check_values,
    encoding_of,
    is_telling,
    not_asked_for,
    read_body,
)
from omega21.client.http.intermediaries import foreign_reply, media_type, retry_after
from omega21.client.http.link import Link, link_profile
from omega21.client.http.proof import ServerProof
from omega21.client.http.proxies import by_environment, proxy_fault
from omega21.client.http.retry import Fatal, RetryRules, is_link_failure, judge
from omega21.client.http.usage import Traffic, TrafficBook
from omega21.language import N_, _, current_language
from omega21.language.borrowed import translated
from omega21.logs import hide
from omega21.protocol.auth.proof import TokenProof
from omega21.protocol.auth.token import optional_token
from omega21.protocol.errors import (
    PROBLEM_MEDIA_TYPE,
    InvalidAddress,
    InvalidReply,
    InvalidRequest,
    NotOmega21,
    OmegaError,
    Problem,
    TimedOut,
    Unreachable,
    from_problem,
)
from omega21.protocol.link.probe import LINK_MEDIA_TYPE
from omega21.protocol.tasks.code import CODE_MEDIA_TYPE

TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 15.0
MAX_REPLY_BYTES = 4 * 2**20
"""Default maximum size of a reply in memory, decompressed, in bytes."""

ALIVE_BYTES = 64 * 2**10
"""A download of at least this size shows that the link is up, even if it breaks afterwards."""

_OURS = frozenset(
    {"application/json", "application/vnd.safetensors", CODE_MEDIA_TYPE, LINK_MEDIA_TYPE}
)

_KEY = "Idempotency-Key"

_log = logging.getLogger("omega21.http")
_jitter = random.SystemRandom()
_Reply = TypeVar("_Reply", bound=BaseModel)
_Got = TypeVar("_Got")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request to the server, independent of the HTTP library."""

    method: str
    path: str
    query: Mapping[str, str | int | float] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_anonymous: bool = False
    max_bytes: int | None = None
    """Maximum size of the reply in bytes; None for `MAX_REPLY_BYTES`."""


@dataclass(frozen=True, slots=True)
class Response:
    """A successful reply of the server."""

    status: int
    headers: httpx.Headers
    body: bytes
    max_bytes: int = MAX_REPLY_BYTES

    def read(self, message: type[_Reply]) -> _Reply:
        """Parse the body as `message`, leniently. Raises InvalidReply if that fails."""
        check_values(self.body, most=self.max_bytes)
        try:
            reply = message.model_validate_json(self.body)
        except ValidationError as error:
            raise InvalidReply(
                _("the reply is not a {name}: {error}").format(
                    name=message.__name__, error=_first_fault(error)
                )
            ) from None  # pydantic's own text would quote the whole reply
        check_numbers(reply)
        return reply


def _first_fault(error: ValidationError) -> str:
    """Describe the first error and its place, without creating objects for a million errors."""
    if not is_telling(error.error_count()):
        return _("{count} errors").format(count=error.error_count())
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {translated(first['msg'])}" if where else translated(first["msg"])


class Sink(Protocol):
    """Receives a reply's bytes in chunks; each attempt starts with `begin`."""

    def begin(self, status: int, headers: httpx.Headers) -> None:
        """Start a response with this status and these headers."""

    def write(self, chunk: bytes) -> None:
        """Append a chunk of the response body."""


class Transport:
    """Sends requests to one server: timeouts, retries, errors, counters.

    Raises InvalidAddress, also for a token that would be sent unencrypted over a network.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        proof_needed: bool = False,
        timeout: float = TIMEOUT_SECONDS,
        rules: RetryRules | None = None,
        ca: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.address = address = parse_address(address)
        token = optional_token(token, source=_("the client's token"))
        check_encrypted(address, token)
        self.traffic = Traffic()
        self.link = Link()
        self._rules = rules or RetryRules()
        headers = {"ngrok-skip-browser-warning": "1", "User-Agent": "omega21"}
        headers["Accept-Encoding"] = ACCEPTED_ENCODINGS
        hide(token)
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self._proof = ServerProof(token) if token and proof_needed else None
        self.profile = link_profile(address)
        local = self.profile.is_local
        self.book = None if local else TrafficBook(httpx.URL(address).host, self.traffic)
        self._seconds = timeout + min(timeout, CONNECT_SECONDS)
        self._http = by_environment(
            lambda: httpx.AsyncClient(
                base_url=address,
                headers=headers,
                timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
                # A proxy from the environment variables is not used for this machine.
                trust_env=not local,
                http2=not local,
                verify=True if ca is None else trusting(ca),
                transport=transport,
                # No call needs cookies, and a stored one would identify requests.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            )
        )

    @property
    def sends_token(self) -> bool:
        """Whether requests have the token: not before a required proof."""
        return bool(self._authorization) and (self._proof is None or self._proof.is_proven)

    async def aclose(self) -> None:
        """Close the connections and store the traffic counts."""
        await self._http.aclose()
        if self.book is not None:
            self.book.write()

    def with_rules(self, rules: RetryRules) -> Self:
        """Return a transport with other retry rules over the same connections and counters."""
        other = copy(self)
        other._rules = rules
        other.link = Link()
        return other

    def with_patience(self, seconds: float) -> Self:
        """Return a transport that retries until the link has been down for this long."""
        return self.with_rules(replace(self._rules, patience=seconds))

    def waiting_at_most(self, seconds: float) -> Self:
        """Return a transport whose calls wait at most this long between attempts, in total."""
        return self.with_rules(replace(self._rules, in_all=min(seconds, self._rules.in_all)))

    async def send(self, request: Request) -> Response:
        """Send a request, with retries, and return the response.

        Raises the OmegaError that the server described, or a LinkFailure.
        """
        keyed = _KEY in request.headers
        return await self._persist(lambda _failing: self._attempt(request), keyed=keyed)

    async def download(self, make_request: Callable[[], Request], sink: Sink) -> httpx.Headers:
        """Stream a response body to `sink`, and return its headers.

        `make_request` is called before each attempt, so that an interrupted download continues
        where it stopped. Raises as `send`.
        """
        return await self._persist(
            lambda failing: self._receive(make_request(), sink, failing=failing)
        )

    async def _persist(
        self, attempt: Callable[[Link], Awaitable[_Got]], *, keyed: bool = False
    ) -> _Got:
        failures, waited = 0, 0.0
        failing = Link()  # of this call only: others may be answered meanwhile
        while True:
            try:
                if self._proof is not None:
                    await self._proof.settle(self._ask_proof)
                got = await attempt(failing)
            except OmegaError as error:
                failures += 1
                delay = self._after(error, failures, keyed=keyed, waited=waited, failing=failing)
            else:
                self.traffic.answers += 1
                self.link.up()
                return got
            waited += delay
            await anyio.sleep(delay)

    async def _ask_proof(self, path: str, body: bytes) -> TokenProof:
        request = Request(
            method="POST",
            path=path,
            headers={"Content-Type": "application/json"},
            body=body,
            is_anonymous=True,
        )
        return (await self._attempt(request)).read(TokenProof)

    async def _receive(self, request: Request, sink: Sink, *, failing: Link) -> httpx.Headers:
        async with self._exchange(request) as (response, deadline):
            if not response.is_success:
                body = await read_body(response, most=0, deadline=deadline)
                raise refusal(response, body) or NotOmega21(f"HTTP {response.status_code}")
            if failure := refusal(response, b""):
                raise failure
            if encoding := encoding_of(response):
                raise not_asked_for(encoding)
            sink.begin(response.status_code, response.headers)
            received = 0
            async for chunk in response.aiter_raw():
                deadline.received(len(chunk))
                sink.write(chunk)
                received += len(chunk)
                if received > ALIVE_BYTES:
                    self.link.up()
                    failing.up()
        return response.headers

    def _after(
        self, error: OmegaError, failures: int, *, keyed: bool, waited: float, failing: Link
    ) -> float:
        """Record a failure; return the seconds to wait before the next attempt, or raise it."""
        is_foreign = not isinstance(error, InvalidReply) and self.traffic.answers > 0
        if isinstance(error, NotOmega21) and is_foreign:
            error = _in_between(error)
        if is_link_failure(error):
            self.link.down(error)
            failing.down(error)
        else:
            self.link.up()
            failing.up()
        verdict = judge(error, keyed=keyed)
        if isinstance(verdict, Fatal):
            raise error
        down_for = max(self.link.down_for(), failing.down_for())
        if self._rules.gives_up(verdict, failures, down_for=down_for):
            raise error
        delay = self._rules.delay(failures, chance=_jitter.random(), at_least=verdict.at_least)
        delay = self._rules.within_patience(delay, verdict, down_for=down_for, waited=waited)
        _log.info("again in %.1f s: %s", delay, error)
        return delay

    async def _attempt(self, request: Request) -> Response:
        """Send a request once."""
        most = MAX_REPLY_BYTES if request.max_bytes is None else request.max_bytes
        async with self._exchange(request) as (response, deadline):
            body = await read_body(response, most=most, deadline=deadline)
        if failure := refusal(response, body):
            raise failure
        return Response(response.status_code, response.headers, body, most)

    @asynccontextmanager
    async def _exchange(self, request: Request) -> AsyncIterator[tuple[httpx.Response, Deadline]]:
        """Send a request and open its response; count it, log it, map the library's exceptions."""
        start = time.monotonic()
        shows_token = self.sends_token and not request.is_anonymous
        deadline = Deadline(self._seconds, sent=len(request.body or b""))
        try:
            built = self._http.build_request(
                request.method,
                self.address + request.path,
                params=dict(request.query) or None,
                headers={
                    "Accept-Language": current_language(),
                    **(self._authorization if shows_token else {}),
                    **request.headers,
                },
                content=request.body,
            )
            self.traffic.requests += 1
            sent = _header_bytes(built.headers) + len(request.body or b"")
            self.traffic.bytes_sent += sent
            with deadline.scope:
                response = await self._http.send(built, stream=True)
                try:
                    yield response, deadline
                finally:
                    received = _header_bytes(response.headers) + response.num_bytes_downloaded
                    self.traffic.bytes_received += received
                    await response.aclose()
                    if self.book is not None:
                        self.book.write_when_due()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            _log.info("%s %s failed: %s", request.method, request.path, type(error).__name__)
            raise map_error(error, self.address) from error
        if deadline.scope.cancelled_caught:
            _log.info("%s %s failed: too slow", request.method, request.path)
            raise TimedOut(
                _("{address}: the reply arrives too slowly").format(address=self.address)
            )
        milliseconds = 1000 * (time.monotonic() - start)
        _log.info(
            "%s %s -> %d (%d bytes up, %d down, %.0f ms)",
            *(request.method, built.url.raw_path.decode(), response.status_code),
            *(sent, received, milliseconds),
            extra={"request": response.headers.get("x-request-id")},
        )


def refusal(response: httpx.Response, body: bytes) -> OmegaError | None:
    """Return the error for a response, or None if it is a successful one of an omega21 server."""
    kind = media_type(response)
    if kind == PROBLEM_MEDIA_TYPE:
        try:
            problem = Problem.model_validate_json(body)
        except ValidationError:
            return foreign_reply(response, body)  # Cloudflare describes its errors in this way too
        if problem.retry_after is None:
            problem = problem.model_copy(update={"retry_after": retry_after(response)})
        return from_problem(problem)
    if response.is_success and kind in _OURS:
        return None
    return foreign_reply(response, body)


def _in_between(error: NotOmega21) -> Unreachable:
    """Return the retryable error for a foreign reply where the server answered before."""
    return Unreachable(
        error.message,
        hint=_(
            "the server answered here before: if your network requires a login, log in with a "
            "browser; if the address has changed, continue with `omega21 resume --url URL`"
        ),
    )


_MAPPED: tuple[tuple[type[Exception], type[OmegaError], str], ...] = (
    (httpx.ConnectTimeout, Unreachable, N_("no connection in time")),
    (httpx.TimeoutException, TimedOut, N_("no answer in time")),
    (httpx.NetworkError, Unreachable, N_("the connection failed")),
    (httpx.ProxyError, Unreachable, N_("the proxy refused")),
    (httpx.RemoteProtocolError, Unreachable, N_("the connection was cut")),
    (httpx.LocalProtocolError, InvalidRequest, N_("the request cannot be sent")),
    (httpx.UnsupportedProtocol, InvalidAddress, N_("not an address")),
    (httpx.InvalidURL, InvalidAddress, N_("not an address")),
    (httpx.DecodingError, NotOmega21, N_("the reply cannot be decoded")),
    (httpx.TooManyRedirects, NotOmega21, N_("the address redirects in a loop")),
)
"""The HTTP library's exceptions, the most specific first, and the errors for them."""


def map_error(error: Exception, address: str) -> OmegaError:
    """Map an exception of the HTTP library."""
    if fault := _tls_fault(error):
        return NotOmega21(
            f"{address}: {fault}",
            hint=_("check the address; for a certificate of a private authority give --ca FILE"),
        )
    if fault_of_proxy := proxy_fault(error, address):
        return fault_of_proxy
    if reason := _unknown_name(error):
        return Unreachable(
            _("{address}: its name is not known ({reason})").format(address=address, reason=reason),
            hint=_(
                "check the address and this machine's network; a closed tunnel loses its name: "
                "if it has another one now, continue there with `omega21 resume --url URL`"
            ),
        )
    # The parser's message for a first line that is not HTTP: an SSH server or a mail server.
    if isinstance(error, httpx.RemoteProtocolError) and "illegal status line" in str(error):
        return NotOmega21(_("{address} does not speak HTTP").format(address=address))
    for theirs, ours, words in _MAPPED:
        if isinstance(error, theirs):
            detail = f" ({reason})" if (reason := _reason(error)) else ""
            return ours(f"{address}: {_(words)}{detail}")
    raise error


def trusting(ca: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts the authorities in `ca` (PEM) besides the default ones.

    Raises InvalidRequest when that is not a file of certificates.
    """
    context = httpx.create_ssl_context()
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(
            _("{path} cannot be read as certificates: {error}").format(path=ca, error=error),
            hint=_("--ca takes a PEM file, with lines such as BEGIN CERTIFICATE"),
        ) from error
    return context


def _tls_fault(error: BaseException | None) -> str | None:
    """Return the TLS error in the chain of causes, if there is one."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _("its certificate is not valid: {reason}").format(reason=error.verify_message)
        if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
            return _("it does not speak TLS (https)")
        error = error.__cause__ or error.__context__
    return None


def _reason(error: BaseException) -> str:
    """Return the system's message from the chain of causes, else the library's message.

    For several addresses the library says only that all of them failed.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return _("connection refused")
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return os.strerror(cause.errno) if cause.errno > 0 else cause.strerror
        grouped = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = grouped or cause.__cause__ or cause.__context__
    return str(error)


def _unknown_name(error: BaseException | None) -> str | None:
    """Return the resolver's message, if the chain of causes ends in it."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return error.strerror or str(error)
        error = error.__cause__ or error.__context__
    return None


def _header_bytes(headers: httpx.Headers) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers.raw)
