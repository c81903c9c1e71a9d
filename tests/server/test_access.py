"""Who may call: with a token, and from this machine without one."""

import base64

import httpx
import pytest
from starlette.datastructures import Headers

from omega21.protocol.errors import ForeignOrigin, OmegaError, Unauthorized
from omega21.server.access import Access, is_loopback_address
from omega21.server.app import create_app
from omega21.training.engine import Engine

TOKEN = "correct-horse-ñ"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


def check(access: Access, path: str = "/status", **headers: str) -> type[OmegaError] | None:
    try:
        access.check(path, Headers({"host": "127.0.0.1:8000"} | headers))
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
def test_the_token_opens_as_bearer(scheme: str) -> None:
    assert check(Access(token="secret"), authorization=f"{scheme} secret") is None


def test_the_token_opens_as_a_basic_password_for_any_user() -> None:
    assert check(Access(token=TOKEN), authorization=basic(TOKEN)) is None


def test_with_a_token_any_host_and_origin_is_served() -> None:
    access = Access(token="secret")
    headers = {"host": "abc.ngrok-free.app", "origin": "https://elsewhere.example"}
    assert check(access, authorization="Bearer secret", **headers) is None


def test_health_is_open() -> None:
    assert check(Access(token=TOKEN), "/health") is None
    assert check(Access(), "/health", host="abc.ngrok-free.app") is None


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


@pytest.mark.parametrize(
    ("host", "inside"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_addresses(host: str, inside: bool) -> None:
    assert is_loopback_address(host) is inside


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/status", "/docs", "/openapi.json", "/nope", "/runs/a/steps"])
async def test_every_other_path_needs_the_token(engine: Engine, path: str) -> None:
    transport = httpx.ASGITransport(create_app(engine, access=Access(token="secret")))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        refused = await http.get(path)
        health = await http.get("/health")

    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert "Bearer" in refused.headers["www-authenticate"]
    assert refused.headers["x-request-id"]
    assert health.status_code == 200


def test_a_token_is_shown_nowhere() -> None:
    assert "secret" not in repr(Access(token="secret"))
