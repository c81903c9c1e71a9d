"""The seam to the network: what comes back, what is tried again, what is counted and logged."""

import logging
import socket

import httpx
import pytest

from omega21.client.http.retry import RetryRules
from omega21.client.http.transport import Request, Transport, map_error
from omega21.protocol.errors import (
    InvalidSamples,
    NotOmega21,
    OmegaError,
    StorageFull,
    TimedOut,
    Unauthorized,
    Unavailable,
    UnknownProblem,
    Unreachable,
    to_problem,
)
from omega21.protocol.legacy import Health
from tests.proxies import canned, reply

pytestmark = pytest.mark.anyio

GET = Request(method="GET", path="/health")
HEALTH = reply(200, '{"alive": true, "timestamp": "now", "uptime_seconds": 1}')
QUICK = RetryRules(attempts=3, first_delay=0.001, longest_delay=0.002)

NEVER_CAUSED = {
    httpx.HTTPStatusError,  # raised by raise_for_status, which nothing here calls
    httpx.CookieConflict,  # no cookies are read
    httpx.StreamError,  # these four: a body read in the wrong order, a fault of our own
    httpx.StreamConsumed,
    httpx.StreamClosed,
    httpx.ResponseNotRead,
    httpx.RequestNotRead,
}


def problem(error: OmegaError, *more: str) -> bytes:
    document = to_problem(error)
    return reply(document.status, document.model_dump_json(), "application/problem+json", *more)


async def send(*replies: bytes, rules: RetryRules = QUICK) -> bytes:
    async with canned(*replies) as server:
        transport = Transport(server.address, rules=rules)
        try:
            return (await transport.send(GET)).body
        finally:
            await transport.aclose()


def test_every_exception_of_the_http_library_is_mapped() -> None:
    exceptions = {
        value
        for value in vars(httpx).values()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    raised = {kind for kind in exceptions if not kind.__subclasses__()} - NEVER_CAUSED

    assert {httpx.ConnectError, httpx.InvalidURL, httpx.PoolTimeout} <= raised
    for kind in raised:
        assert isinstance(map_error(kind("words"), "http://there"), OmegaError), kind


async def test_a_problem_becomes_the_exception_that_the_server_raised() -> None:
    with pytest.raises(InvalidSamples, match=r"^expected 1600 features; send them$"):
        await send(problem(InvalidSamples("expected 1600 features", hint="send them")))
    with pytest.raises(StorageFull) as caught:
        await send(problem(StorageFull("full"), "Retry-After: 7"))
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (reply(200, "<html>router</html>", "text/html"), NotOmega21, "text/html"),
        (reply(404, "<html>", "text/html"), NotOmega21, "HTTP 404"),
        (reply(302, "", "text/html", "Location: https://x/"), NotOmega21, "https://x/"),
        (reply(502, "<html>", "text/html"), Unreachable, "HTTP 502"),
        (reply(530, "", "text/html"), Unreachable, "HTTP 530"),
        (reply(404, "", "text/html", "ngrok-error-code: ERR_NGROK_3200"), Unreachable, "3200"),
        (reply(500, "{}", "application/problem+json"), NotOmega21, "HTTP 500 with"),
        (b"220 mail here\r\n\r\n", NotOmega21, "does not speak HTTP"),
        (b"", Unreachable, "cut"),
        (
            reply(418, '{"title": "T", "status": 418, "detail": "d", "code": "new_one"}').replace(
                b"application/json", b"application/problem+json"
            ),
            UnknownProblem,
            "new_one",
        ),
    ],
)
async def test_whatever_else_answers_is_named(
    answer: bytes, expected: type[OmegaError], words: str
) -> None:
    with pytest.raises(expected, match=words):
        await send(answer)


async def test_what_may_succeed_later_is_tried_again() -> None:
    assert await send(b"", problem(Unavailable("starting")), HEALTH)
    with pytest.raises(Unavailable):
        await send(problem(Unavailable("starting")))


async def test_what_cannot_succeed_is_not() -> None:
    async with canned(problem(Unauthorized("no")), HEALTH) as server:
        transport = Transport(server.address, rules=QUICK)
        with pytest.raises(Unauthorized):
            await transport.send(GET)
        await transport.aclose()
        assert len(server.requests or []) == 1


async def test_a_name_that_nobody_has() -> None:
    transport = Transport("https://nowhere.invalid", rules=QUICK)
    with pytest.raises(Unreachable, match=r"name is not known .* resume --url URL"):
        await transport.send(GET)
    await transport.aclose()


async def test_nobody_at_the_address_and_nobody_who_answers() -> None:
    async with canned(HEALTH) as server:
        address = server.address
    transport = Transport(address, rules=QUICK)
    with pytest.raises(Unreachable):
        await transport.send(GET)
    assert transport.link.since is not None
    await transport.aclose()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        transport = Transport(f"http://127.0.0.1:{port}", timeout=0.1, rules=QUICK)
        with pytest.raises(TimedOut):
            await transport.send(GET)
        await transport.aclose()


async def test_the_link_is_told_when_it_breaks_and_when_it_holds_again() -> None:
    async with canned(b"", b"", HEALTH) as server:
        transport = Transport(server.address, rules=QUICK)
        seen: list[bool] = []
        transport.link.on_change = lambda: seen.append(transport.link.since is None)
        await transport.send(GET)
        await transport.aclose()
    assert seen == [False, True]


async def test_a_reply_that_is_another_message_is_no_answer() -> None:
    async with canned(reply(200, '{"hello": 1}')) as server:
        transport = Transport(server.address)
        answer = await transport.send(GET)
        with pytest.raises(NotOmega21, match="not a Health"):
            answer.read(Health)
        await transport.aclose()


async def test_the_token_goes_along_and_into_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with canned(b"", HEALTH) as server:
        transport = Transport(server.address, token="tell-nobody", rules=QUICK)
        await transport.send(GET)
        await transport.aclose()
    assert b"Authorization: Bearer tell-nobody" in (server.requests or [])[1]
    assert b"ngrok-skip-browser-warning" in (server.requests or [])[1]
    assert "GET /health -> 200" in caplog.text
    assert "tell-nobody" not in caplog.text


async def test_requests_and_bytes_are_counted_both_ways() -> None:
    async with canned(HEALTH) as server:
        transport = Transport(server.address)
        await transport.send(Request(method="PUT", path="/x", body=b"1234567890" * 100))
        await transport.aclose()
    assert transport.traffic.requests == 1
    assert 1000 < transport.traffic.bytes_sent < 1500
    assert len(HEALTH) - 50 < transport.traffic.bytes_received < len(HEALTH) + 50
