"""From exception to reply: a problem document each time, whatever happened."""

import logging

import httpx
import pytest
from fastapi import FastAPI

from omega21.engine.engine import Engine
from omega21.protocol.errors import OmegaError, Unavailable, error_classes
from omega21.server.app import create_app
from omega21.server.auth.access import Access
from omega21.server.http.errors import problem_response

pytestmark = pytest.mark.anyio


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_what_nobody_foresaw_goes_to_the_log_and_not_to_the_client(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(engine, access=Access())

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("a secret of the server")

    async with client(app) as http:
        reply = await http.get("/broken")

    request_id = reply.headers["x-request-id"]
    assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
    assert reply.headers["content-type"] == "application/problem+json"
    assert request_id in reply.json()["detail"]
    assert "secret" not in reply.text
    assert f"request {request_id}, GET /broken" in caplog.text
    assert "RuntimeError: a secret of the server" in caplog.text
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/status/", 404, "not_found"),
        ("DELETE", "/status", 405, "method_not_allowed"),
        ("GET", "/status?run=nobody", 404, "unknown_run"),
        ("GET", "/runs/nobody", 404, "unknown_run"),
        ("GET", "/runs/nobody/plan", 404, "unknown_run"),
        ("GET", "/runs/nobody/steps", 404, "unknown_run"),
        ("GET", "/runs/nobody/steps?wait=9", 404, "unknown_run"),
        ("GET", "/runs/nobody/checkpoint?part=weights", 404, "unknown_run"),
        ("GET", "/runs/..%2f..%2fetc", 404, "not_found"),
        ("GET", "/runs/NUL", 422, "invalid_request"),
        ("GET", "/runs/default/checkpoint?part=optimizer", 422, "invalid_request"),
        ("GET", "/runs/default/steps?afer=3", 422, "invalid_request"),
        ("GET", "/runs/default/steps?after=-1", 422, "invalid_request"),
        ("DELETE", "/runs/default", 422, "invalid_request"),
        ("HEAD", f"/shards/{'0' * 63}", 422, ""),
        ("HEAD", f"/shards/{'0' * 64}", 404, ""),
    ],
)
async def test_a_wrong_address_is_a_problem_document(
    engine: Engine, method: str, path: str, status: int, code: str
) -> None:
    async with client(create_app(engine, access=Access())) as http:
        reply = await http.request(method, path)

    assert reply.status_code == status
    if code:
        problem = reply.json()
        assert (problem["code"], problem["status"]) == (code, status)
        assert problem["status_text"] == "error"
        assert "\n" not in problem["detail"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"run_id": 3, "to": 4}', "run_id: Input should be a valid string, got '3'"),
        ('{"to": 4}', "run_id: Field required"),
        ('{"run_id": "%s", "to": -1, "extra": 1}' % ("0" * 32), "and 1 more"),
        ("{", "the body is not valid JSON"),
        ("", "body"),
        ("[]", "Input should be a valid dictionary"),
    ],
)
async def test_a_wrong_field_is_named(engine: Engine, body: str, detail: str) -> None:
    async with client(create_app(engine, access=Access())) as http:
        headers = {"Content-Type": "application/json"}
        reply = await http.post("/runs/default/advance", content=body, headers=headers)

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert detail in reply.json()["detail"]


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.code)
def test_every_error_has_a_reply(cls: type[OmegaError]) -> None:
    reply = problem_response(cls("what is wrong"))
    assert reply.status_code == cls.http_status >= 400
    assert reply.media_type == "application/problem+json"


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (5, "5"), (7.6, "8")])
def test_retry_after_is_in_whole_seconds(seconds: float, header: str) -> None:
    reply = problem_response(Unavailable("busy", retry_after=seconds))
    assert reply.headers["retry-after"] == header
