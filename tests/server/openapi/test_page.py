"""The server's description of itself: complete, true, and without anything from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter

from omega21.engine.engine import Engine
from omega21.protocol import (
    checkpoints,
    evaluations,
    history,
    logs,
    plan,
    runs,
    shards,
    steps,
)
from omega21.protocol import inference as compute
from omega21.protocol import legacy as classic
from omega21.protocol.auth import proof, session
from omega21.protocol.errors import error_classes
from omega21.protocol.tasks import code, probe
from omega21.server.app import create_app
from omega21.server.auth.access import Access
from omega21.server.openapi.page import render_page
from omega21.server.openapi.reference import calls, messages

ROOT = Path(__file__).parents[3]
MODULES = (
    checkpoints,
    classic,
    compute,
    evaluations,
    history,
    logs,
    plan,
    probe,
    proof,
    runs,
    session,
    shards,
    steps,
    code,
)


@pytest.fixture
def document(engine: Engine) -> dict[str, Any]:
    return create_app(engine, access=Access()).openapi()


def test_every_call_of_the_contract_is_described(document: dict[str, Any]) -> None:
    assert {f"{call.method} {call.path}" for call in calls(document)} == {
        "POST /train_layer2", "POST /feedback_dendritas", "GET /status", "GET /metricas",
        "GET /info", "GET /health", "POST /diagnostico", "GET /runs", "PUT /runs/{run}",
        "GET /runs/{run}", "DELETE /runs/{run}", "PUT /runs/{run}/plan/{number}",
        "GET /runs/{run}/plan", "PUT /shards/{sha256}", "HEAD /shards/{sha256}",
        "POST /shards/missing", "POST /runs/{run}/advance", "PUT /runs/{run}/control",
        "GET /runs/{run}/steps", "POST /runs/{run}/predict", "POST /runs/{run}/evaluate",
        "GET /runs/{run}/checkpoint", "PUT /runs/{run}/checkpoint",
        "GET /session", "POST /session", "DELETE /session",
        "POST /proof",
        "PUT /runs/{run}/checkpoint/parts/{sha256}", "POST /runs/{run}/evaluations",
        "GET /runs/{run}/evaluations", "GET /runs/{run}/series", "GET /runs/{run}/feedback",
        "GET /events", "GET /memory", "GET /logs", "GET /runs/{run}/log", "POST /link",
        "POST /probe",
        "GET /code", "GET /code/{sha256}", "PUT /code/{sha256}", "POST /code/missing",
    }  # fmt: skip


def test_every_call_has_an_example_and_its_problems(document: dict[str, Any]) -> None:
    codes = {cls.code for cls in error_classes()}
    for call in calls(document):
        name = f"{call.method} {call.path}"
        contents = [*call.requests, *(c for answer in call.answers for c in answer.contents)]
        assert all(c.example or c.type == "file" for c in contents), name
        is_bare = call.method == "HEAD" or [answer.status for answer in call.answers] == ["204"]
        assert is_bare or any(answer.contents for answer in call.answers), name
        assert {refusal.code for refusal in call.refusals} <= codes, name
        assert call.path == "/health" or "unauthorized" in {r.code for r in call.refusals}, name
        assert call.summary.endswith("."), name


def test_no_reference_leads_nowhere(document: dict[str, Any]) -> None:
    named = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert named <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_example_is_a_message(document: dict[str, Any]) -> None:
    schemas: set[str] = set()
    for path in document["paths"].values():
        for operation in path.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in (b.get("content", {}).get("application/json", {}) for b in bodies):
                if content:
                    schemas.add(check_example(content))
    assert len(schemas) > 20


def check_example(content: dict[str, Any]) -> str:
    name = content["schema"]["$ref"].rpartition("/")[2]
    (cls,) = {getattr(module, name) for module in MODULES if hasattr(module, name)}
    example = content.get("example") or content["examples"]["example"]["value"]
    read = TypeAdapter(cls).validate_python(example)
    assert set(example) <= set(read.model_dump()), name
    return str(name)


def test_the_page_shows_everything_and_loads_nothing(document: dict[str, Any]) -> None:
    page = render_page(document)
    for call in calls(document):
        assert f"<code>{call.method} {call.path}</code>" in page
    for message in messages(document):
        assert f'id="{message.name}"' in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["/docs/style.css", "/openapi.json"]
    assert "… 1600 in all" in page


def test_text_is_never_markup() -> None:
    app = FastAPI(title="<b>", summary="<script>", version="1")

    @app.get("/x", tags=["<i>"], description="`<u>`")
    def x() -> None: ...

    page = render_page(app.openapi() | {"components": {"schemas": {}}})
    assert not re.search(r"<(b|script|i|u)>", page)
    assert "<code>&lt;u&gt;</code>" in page


def test_the_reference_is_current() -> None:
    checked = subprocess.run(
        [sys.executable, "docs/generate_http.py", "--check"],
        check=False, capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_pages_are_served(http: httpx.Client) -> None:
    assert http.get("/docs").headers["content-type"].startswith("text/html")
    assert http.get("/docs/style.css").headers["content-type"].startswith("text/css")
    assert http.get("/openapi.json").json()["info"]["title"] == "omega21"
