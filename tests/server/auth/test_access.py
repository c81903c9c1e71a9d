"""Who may call: with a token, and from this machine without one."""

import base64
from typing import Any

import httpx
import pytest

from omega21.engine.engine import Engine
from omega21.protocol.errors import ForeignOrigin, OmegaError, TooManyAttempts, Unauthorized
from omega21.server.app import create_app
from omega21.server.auth.access import SESSION_COOKIE, Access
from omega21.server.auth.origins import is_loopback_name
from omega21.server.auth.throttle import BURST

TOKEN = "correct-horse-ñ"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


def scope(path: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    named = {"host": "127.0.0.1:8000"} | {k.replace("_", "-"): v for k, v in headers.items()}
    raw = [(name.encode(), text.encode()) for name, text in named.items()]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": raw,
        "client": ("203.0.113.7", 4711),
    }


def check(
    access: Access, path: str = "/status", method: str = "GET", **headers: str
) -> type[OmegaError] | None:
    try:
        access.check(scope(path, method, **headers))
    except OmegaError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Digest {TOKEN}",
        TOKEN,
        basic("wrong"),
        basic(""),
        "Basic ???",
        "Basic " + base64.b64encode(TOKEN.encode()).decode(),
    ],
)
def test_without_the_token_nobody_gets_in(authorization: str) -> None:
    refused = check(Access(token=TOKEN), authorization=authorization)
    assert refused is Unauthorized


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("token", ["secret", TOKEN])
def test_the_token_opens_as_bearer(scheme: str, token: str) -> None:
    assert check(Access(token=token), authorization=f"{scheme} {token}") is None


def test_the_token_opens_as_a_basic_password_for_any_user() -> None:
    assert check(Access(token=TOKEN), authorization=basic(TOKEN)) is None


def test_with_the_token_as_bearer_any_host_and_origin_is_served() -> None:
    access = Access(token="secret")
    headers = {"host": "abc.ngrok-free.app", "origin": "https://elsewhere.example"}
    assert check(access, method="POST", authorization="Bearer secret", **headers) is None


@pytest.mark.parametrize(
    ("method", "path", "is_open"),
    [
        ("GET", "/health", True),
        ("HEAD", "/health", True),
        ("POST", "/health", False),
        ("GET", "/", True),
        ("DELETE", "/", False),
        ("GET", "/static/page.js", True),
        ("POST", "/static/page.js", False),
        ("GET", "/static/../status", False),
        ("GET", "/static", False),
        ("GET", "//static/page.js", False),
        ("GET", "//health", False),
        ("GET", "/health/", False),
        ("GET", "http://elsewhere.example/health", False),
        ("GET", "", False),
        ("OPTIONS", "*", False),
        ("POST", "/session", True),
        ("GET", "/session", True),
        ("DELETE", "/session", True),
        ("GET", "/session/more", False),
    ],
)
def test_what_is_open_without_the_token(method: str, path: str, is_open: bool) -> None:
    assert check(Access(token=TOKEN), path, method) is (None if is_open else Unauthorized)


def test_health_is_open_to_any_host() -> None:
    assert check(Access(), "/health", host="abc.ngrok-free.app") is None


def test_too_many_wrong_tokens_are_told_apart_and_the_right_one_opens_all_the_while() -> None:
    access = Access(token="secret")
    refused = [check(access, authorization=f"Bearer {n}") for n in range(BURST + 10)]
    assert refused == [Unauthorized] * BURST + [TooManyAttempts] * 10
    assert check(access, authorization="Bearer secret") is None
    assert check(access, authorization=basic("secret")) is None
    assert check(access, authorization="Bearer again-wrong") is TooManyAttempts


def test_a_request_without_any_token_is_no_guess() -> None:
    access = Access(token="secret")
    assert {check(access) for _ in range(BURST + 10)} == {Unauthorized}
    assert check(access, authorization="Bearer wrong") is Unauthorized


def test_an_address_that_the_caller_claims_changes_nothing() -> None:
    access = Access(token="secret")
    refused = [
        check(access, authorization=f"Bearer {n}", x_forwarded_for=f"198.51.100.{n}")
        for n in range(BURST + 1)
    ]
    assert refused[-1] is TooManyAttempts


def test_forged_cookies_count_as_guesses_and_those_that_are_over_do_not() -> None:
    now = [1_000_000.0]
    access = Access(token="secret")
    access.session_tokens.clock = lambda: now[0]
    over = access.session_tokens.issue()
    now[0] += 2 * 24 * 3600
    cookies = {"over": f"{SESSION_COOKIE}={over}", "forged": f"{SESSION_COOKIE}={over[:-1]}x"}
    assert {check(access, cookie=cookies["over"]) for _ in range(BURST + 10)} == {Unauthorized}
    refused = [check(access, cookie=cookies["forged"]) for _ in range(BURST + 1)]
    assert refused == [Unauthorized] * BURST + [TooManyAttempts]


def test_a_wrong_token_beside_a_right_cookie_does_not_matter() -> None:
    access = Access(token="secret")
    cookie = f"a=b; {SESSION_COOKIE}={access.session_tokens.issue()}"
    assert check(access, cookie=cookie, authorization="Basic ???") is None


OWN = {"host": "abc.ngrok-free.app", "origin": "https://abc.ngrok-free.app"}
FOREIGN = {"host": "abc.ngrok-free.app", "origin": "https://elsewhere.example"}
MISSING = {"host": "abc.ngrok-free.app"}
BY_SITE = {"host": "abc.ngrok-free.app", "sec_fetch_site": "cross-site"}


@pytest.mark.parametrize(
    ("method", "headers", "by_cookie", "by_basic"),
    [
        ("GET", FOREIGN, None, None),
        ("POST", OWN, None, None),
        ("POST", FOREIGN, ForeignOrigin, ForeignOrigin),
        ("DELETE", FOREIGN, ForeignOrigin, ForeignOrigin),
        ("PUT", MISSING, ForeignOrigin, None),  # older clients send no Origin, browsers do
        ("PUT", BY_SITE, ForeignOrigin, ForeignOrigin),
    ],
)
def test_what_a_browser_sends_by_itself_changes_nothing_for_other_sites(
    method: str,
    headers: dict[str, str],
    by_cookie: type[OmegaError] | None,
    by_basic: type[OmegaError] | None,
) -> None:
    access = Access(token="secret")
    cookie = f"{SESSION_COOKIE}={access.session_tokens.issue()}"
    assert check(access, method=method, cookie=cookie, **headers) is by_cookie
    assert check(access, method=method, authorization=basic("secret"), **headers) is by_basic


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.3.2.1:1",
        "localhost",
        "LOCALHOST:80",
        "[::1]",
        "[::1]:8000",
    ],
)
def test_without_a_token_loopback_is_served(host: str) -> None:
    assert check(Access(), host=host) is None
    assert check(Access(), host=host, origin=f"http://{host}") is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "192.168.1.2:8000",
        "0.0.0.0",
        "[::]",
        "127.0.0.1@example.com",
        "[::1",
        "::1",
        "evil.example\\@127.0.0.1",
        "evil@localhost",
        "@127.0.0.1",
        "user:word@127.0.0.1:8000",
        "[::1].evil",
        "[::1]evil:80",
        "[::1]:",
        "[::1%25lo]",
        "[127.0.0.1]",
        "[localhost]",
        "[::1]]",
        "127.0.0.1/",
        "127.0.0.1/evil.example",
        "127.0.0.1#",
        "127.0.0.1?x",
        "127.0.0.1\\",
        "127.0.0.1 evil.example",
        "127.0.0.1\tevil.example",
        "127.0.0.1,evil.example",
        "127.0.0.1;",
        "127.0.0.1%00",
        "127.0.0.1.",
        "127.0.0.1:",
        "127.0.0.1:+80",
        "127.0.0.1:8_0",
        "127.0.0.1:80:80",
        "127.0.0.1:99999",
        "127.0.0.1:port",
        "127.1",
        "127.0.0.01",
        "2130706433",
        "0x7f000001",
        "localhost.",
        "http://127.0.0.1",
        "//127.0.0.1",
    ],
)
def test_without_a_token_another_host_is_refused(host: str) -> None:
    assert check(Access(), host=host) is ForeignOrigin


@pytest.mark.parametrize(
    "origin",
    ["https://example.com", "null", "", "http://127.0.0.1:3000", "https://127.0.0.1:8000"],
)
def test_without_a_token_another_origin_is_refused(origin: str) -> None:
    assert check(Access(), origin=origin) is ForeignOrigin


@pytest.mark.parametrize("site", ["cross-site", "same-site", "another"])
@pytest.mark.parametrize(
    ("method", "mode", "may"),
    [
        ("POST", "navigate", False),
        ("PUT", "no-cors", False),
        ("DELETE", "cors", False),
        ("GET", "no-cors", False),
        ("GET", "navigate", True),
    ],
)
def test_without_a_token_a_page_of_another_site_may_link_and_no_more(
    site: str, method: str, mode: str, may: bool
) -> None:
    refused = check(Access(), method=method, sec_fetch_site=site, sec_fetch_mode=mode)
    assert refused is (None if may else ForeignOrigin)


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_without_a_token_our_own_pages_are_served(site: str) -> None:
    headers = {"sec_fetch_site": site, "sec_fetch_mode": "cors"}
    assert check(Access(), method="POST", **headers) is None


@pytest.mark.parametrize("header", ["x_forwarded_for", "x_forwarded_host", "forwarded"])
def test_without_a_token_nothing_that_a_proxy_passed_on_is_served(header: str) -> None:
    assert check(Access(), **{header: "127.0.0.1"}) is ForeignOrigin


@pytest.mark.parametrize(
    ("host", "inside"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_addresses(host: str, inside: bool) -> None:
    assert is_loopback_name(host) is inside


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/status", "/docs", "/openapi.json", "/nope", "/runs/a/steps"])
async def test_every_other_path_needs_the_token(engine: Engine, path: str) -> None:
    transport = httpx.ASGITransport(create_app(engine, access=Access(token="secret")))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        refused = await http.get(path)
        health = await http.get("/health")

    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert refused.headers["www-authenticate"] == 'Bearer realm="omega21", Basic realm="omega21"'
    assert refused.headers["x-request-id"]
    assert health.status_code == 200


def test_a_token_is_shown_nowhere() -> None:
    access = Access(token="secret")
    assert access.session_tokens.issue()
    assert "secret" not in repr(access) + repr(access.session_tokens)
