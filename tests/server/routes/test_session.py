"""A browser's session through the calls: log in, work, log out."""

from collections.abc import AsyncIterator

import httpx
import pytest

from omega21.engine.engine import Engine
from omega21.server.app import create_app
from omega21.server.auth.access import SESSION_COOKIE, Access
from omega21.server.auth.throttle import BURST
from omega21.server.http.headers import PAGE_HEADERS, SECURITY_HEADERS

pytestmark = pytest.mark.anyio

TOKEN = "the-right-token"
PAGE = "https://abc.ngrok-free.app"
FROM_PAGE = {"Origin": PAGE, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}


@pytest.fixture
async def browser(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(engine, access=Access(token=TOKEN)))
    async with httpx.AsyncClient(transport=transport, base_url=PAGE, headers=FROM_PAGE) as http:
        yield http


async def test_in_and_out(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/session")).json() == {"login_needed": True, "logged_in": False}
    assert (await browser.get("/status")).status_code == 401

    entered = await browser.post("/session", json={"token": TOKEN})
    assert (entered.status_code, entered.content) == (204, b"")
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"{SESSION_COOKIE}=")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes == {"httponly", "samesite=strict", "path=/", "secure", "max-age=86400"}
    assert TOKEN not in cookie

    assert (await browser.get("/session")).json() == {"login_needed": True, "logged_in": True}
    assert (await browser.get("/status")).status_code == 200
    assert (await browser.post("/diagnostico")).status_code == 200

    stolen = {"Cookie": f"{SESSION_COOKIE}={browser.cookies[SESSION_COOKIE]}"}
    assert (await browser.delete("/session")).status_code == 204
    assert SESSION_COOKIE not in browser.cookies
    again = await browser.get("/status", headers=stolen)
    assert (again.status_code, again.json()["code"]) == (401, "unauthorized")
    assert "log in again" in again.json()["detail"]


async def test_a_cookie_is_not_secure_only_where_there_is_no_tls(engine: Engine) -> None:
    transport = httpx.ASGITransport(create_app(engine, access=Access(token=TOKEN)))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.5:8000") as http:
        plain = await http.post("/session", json={"token": TOKEN})
        proxied = await http.post(
            "/session", json={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"}
        )
    assert "secure" not in plain.headers["set-cookie"].lower()
    assert "secure" in proxied.headers["set-cookie"].lower()


async def test_guessing_at_the_login_is_counted_and_never_locks_the_owner_out(
    browser: httpx.AsyncClient,
) -> None:
    guesses = [
        (await browser.post("/session", json={"token": f"guess-{n}"})) for n in range(BURST + 3)
    ]
    assert [reply.status_code for reply in guesses] == [401] * BURST + [429] * 3
    assert int(guesses[-1].headers["retry-after"]) >= 1
    assert guesses[-1].json()["code"] == "too_many_attempts"
    elsewhere = await browser.get("/status", headers={"Authorization": "Bearer wrong"})
    assert elsewhere.status_code == 429, "the calls count together"
    assert (await browser.post("/session", json={"token": TOKEN})).status_code == 204
    assert (await browser.get("/status")).status_code == 200


async def test_another_site_logs_nobody_in_or_out(browser: httpx.AsyncClient) -> None:
    await browser.post("/session", json={"token": TOKEN})
    foreign = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    entered = await browser.post("/session", json={"token": TOKEN}, headers=foreign)
    assert (entered.status_code, "set-cookie" in entered.headers) == (403, False)
    assert (await browser.delete("/session", headers=foreign)).status_code == 403
    assert (await browser.get("/status")).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"token": 12345678}', "application/json", 422),
        (b'{"tokn": "12345678"}', "application/json", 422),
        (b"12345678", "application/json", 422),
        (b'{"token": ""}', "application/json", 422),
        (b"[" * 4000, "application/json", 422),
        (b'{"token": "%s"}' % (b"x" * 5000), "application/json", 413),
        (b"token=12345678", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_a_login_that_is_none_is_not_quoted(
    browser: httpx.AsyncClient, body: bytes, kind: str, status: int
) -> None:
    reply = await browser.post("/session", content=body, headers={"Content-Type": kind})
    assert reply.status_code == status
    assert "12345678" not in reply.text


async def test_a_server_without_a_token_needs_no_login(transport: httpx.ASGITransport) -> None:
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.get("/session")).json() == {"login_needed": False, "logged_in": True}
        entered = await http.post("/session", json={"token": "anything"})
        assert (entered.status_code, "set-cookie" in entered.headers) == (204, False)
        assert (await http.delete("/session")).status_code == 204


async def test_a_page_of_scripts_is_not_asked_for_a_password_by_the_browser(
    browser: httpx.AsyncClient,
) -> None:
    by_script = await browser.get("/status")
    by_hand = await browser.get("/docs", headers={"Sec-Fetch-Mode": "navigate"})
    assert by_script.headers["www-authenticate"] == 'Bearer realm="omega21"'
    assert "Basic" in by_hand.headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/style.css", "/health", "/status", "/nope"])
@pytest.mark.parametrize("token", ["", TOKEN])
async def test_every_reply_has_the_headers_for_browsers_that_it_needs(
    browser: httpx.AsyncClient, path: str, token: str
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    reply = await browser.get(path, headers=headers)
    is_json = reply.headers["content-type"] in {"application/json", "application/problem+json"}
    wanted = SECURITY_HEADERS if is_json else PAGE_HEADERS
    told = {name.lower(): text for name, text in wanted.items()}
    assert {name: reply.headers.get(name) for name in told} == told
    assert is_json == ("permissions-policy" not in reply.headers)
    assert reply.headers["cache-control"] == ("no-cache" if path == "/" else "no-store")
    assert "access-control-allow-origin" not in reply.headers
    assert "server" not in reply.headers


async def test_a_page_that_is_kept_keeps_its_headers(browser: httpx.AsyncClient) -> None:
    tag = (await browser.get("/")).headers["etag"]
    unchanged = await browser.get("/", headers={"If-None-Match": tag})
    assert unchanged.status_code == 304
    wanted = {name.lower(): text for name, text in PAGE_HEADERS.items()}
    assert {name: unchanged.headers.get(name) for name in wanted} == wanted


async def test_health_tells_nothing_but_that_it_lives(browser: httpx.AsyncClient) -> None:
    reply = await browser.get("/health")
    assert set(reply.json()) == {"alive", "timestamp", "uptime_seconds"}
