"""The server's log: JSON lines with run, step and request, without secrets, one file, over HTTP."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from omega21.logs import SERVER_LOG
from omega21.server.auth.access import SESSION_COOKIE, SESSION_PATH
from tests.client.runs import tiny
from tests.servers import start_server

TOKEN = "s3cret-t0ken-of-the-server"


def lines_of(data_dir: Path) -> list[dict[str, Any]]:
    text = (data_dir / SERVER_LOG).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a server that was asked, refused, killed and stopped, logging all."""
    folder = tmp_path_factory.mktemp("logs") / "data"
    arguments = ("--device", "cpu", "--threads", "1", "--log-level", "debug")
    with (
        start_server(folder, *arguments, token=TOKEN) as server,
        httpx.Client(base_url=server.address, timeout=60) as http,
    ):
        http.get("/status", headers={"Authorization": "Bearer s3cret-but-wr0ng"})
        http.get("/status?token=s3cret-in-query", headers={"Cookie": "session=s3cret-c00kie"})
        http.headers["Authorization"] = f"Bearer {TOKEN}"
        http.get("/status", params={"run": "nobody"})
        http.put(
            "/runs/mi-corrida", json={"id": "1" * 32, "config": tiny("x").config().model_dump()}
        )
        with httpx.Client(base_url=server.address, timeout=60) as browser:
            assert browser.post(SESSION_PATH, json={"token": TOKEN}).status_code == 204
            session_token = browser.cookies[SESSION_COOKIE]
            assert browser.get("/runs/mi-corrida").status_code == 200
        (folder.parent / "session_token.txt").write_text(session_token, encoding="utf-8")
        server.kill_child()
        http.get("/runs/mi-corrida")
        reply = http.get("/logs", params={"lines": 5})
        (folder.parent / "reply.json").write_text(reply.text, encoding="utf-8")
        (folder.parent / "id.txt").write_text(reply.headers["x-request-id"], encoding="utf-8")
        (folder.parent / "stderr.txt").write_text(server.log, encoding="utf-8")
    return folder


def test_each_request_has_a_line_with_its_id_and_run(data_dir: Path) -> None:
    lines = [line for line in lines_of(data_dir) if "request" in line]
    (created,) = [line for line in lines if line["message"].startswith("PUT /runs/mi-corrida")]
    assert created["run"] == "mi-corrida"
    assert "-> 201" in created["message"]
    (unknown,) = [line for line in lines if line.get("run") == "nobody"]
    assert "-> 404" in unknown["message"]
    asked = (data_dir.parent / "id.txt").read_text(encoding="utf-8")
    assert [line["message"].partition(" ->")[0] for line in lines if line["request"] == asked] == [
        "GET /logs"
    ]


def test_parent_and_child_log_to_one_file(data_dir: Path) -> None:
    lines = lines_of(data_dir)
    died = next(line for line in lines if "the server process ended" in line["message"])
    serving = {line["process"] for line in lines if "request" in line}
    assert len(serving) == 2
    assert died["process"] not in serving


def test_it_is_read_over_http(data_dir: Path) -> None:
    reply = json.loads((data_dir.parent / "reply.json").read_text(encoding="utf-8"))
    assert len(reply["lines"]) == 5
    all_lines = (data_dir / SERVER_LOG).read_text(encoding="utf-8").splitlines()
    start = all_lines.index(reply["lines"][0])
    assert all_lines[start : start + 5] == reply["lines"]


def test_no_secret_is_in_any_log(data_dir: Path) -> None:
    texts = [path.read_bytes() for path in (data_dir / SERVER_LOG).parent.iterdir()]
    texts.append((data_dir.parent / "stderr.txt").read_bytes())
    texts.append((data_dir.parent / "reply.json").read_bytes())
    assert any(b"GET /status" in text for text in texts)
    assert not [text for text in texts if b"s3cret" in text]
    session_token = (data_dir.parent / "session_token.txt").read_bytes()
    assert len(session_token) > 20
    assert not [text for text in texts if session_token in text]


def test_the_number_of_lines_is_bounded(http: httpx.Client) -> None:
    assert http.get("/logs", params={"lines": 0}).status_code == 422
    assert http.get("/logs", params={"lines": 10_001}).status_code == 422


def test_strangers_read_no_log(tmp_path: Path) -> None:
    with start_server(tmp_path / "data", "--device", "cpu", token=TOKEN) as server:
        assert httpx.get(f"{server.address}/logs").status_code == 401
