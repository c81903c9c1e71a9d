"""The support bundle: what is in it, and that no secret planted anywhere comes out of it."""

import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from omega21 import Client
from omega21.client.diagnostics.bundle import write_bundle
from omega21.client.diagnostics.redact import Redactor
from omega21.client.known_servers import remember
from omega21.logs import CLIENT_LOG, SharedFile
from tests.carriers import NGROK, TunnelCarrier
from tests.client.runs import tiny, train
from tests.servers import RunningServer, start_server

USER = "mariaplantada"
TOKEN = "planted-token-1"
PLANTED = [USER, "planted", "some-words", "203.0.113.9"]
"""Nothing of this may be in a bundle, in whatever case."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose name, tokens and servers are planted everywhere that a user has."""
    home = tmp_path / "home" / USER
    home.mkdir(parents=True)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, USER)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("OMEGA21_SERVERS", str(home / "servers"))
    monkeypatch.setenv("NGROK_AUTHTOKEN", "planted-ngrok-token")
    remember(NGROK, token="planted-token-of-old")
    return home


@pytest.fixture
def logger(home: Path) -> Iterator[logging.Logger]:
    logger = logging.getLogger("omega21.test_bundle")
    handler = SharedFile(home / "data" / "omega21" / CLIENT_LOG)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def unpacked(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def plant(logger: logging.Logger, server: RunningServer, home: Path) -> None:
    """Leave secrets in the logs of both sides, as faults of anybody's might."""
    logger.error("read %s/data/x for %s: Authorization: Bearer %s", home, USER, TOKEN)
    logger.error("cookie: omega21_session=planted-cookie; other=planted-other")
    logger.error(
        '{"token": "planted-in-json", "at": "https://u:planted@some-words.ngrok-free.app/x"}'
    )
    logger.error("asked 203.0.113.9 and SOME-WORDS.ngrok-free.app for planted-token-of-old")
    logger.error("the environment has planted-ngrok-token")
    # The server logs paths as they come, and this user's home may be in one.
    httpx.get(f"{server.address}/home/{USER}/x?token=planted-in-query", headers={
        "Authorization": "Bearer planted-wrong", "Cookie": "s=planted-cookie-of-a-browser",
    })  # fmt: skip


def test_it_holds_what_is_needed_and_nothing_that_was_planted(
    home: Path, logger: logging.Logger, tmp_path: Path
) -> None:
    path = tmp_path / "bundle.zip"
    with start_server(home / "server", "--threads", "1", token=TOKEN) as server:
        anyio.run(_train, server, home / "runs")
        plant(logger, server, home)
        with Client(server.address, token=TOKEN) as client:
            found = {"home": str(home), "checks": [{"token": "planted", "url": f"{NGROK}/status"}]}
            write_bundle(path, client=client, run="kept", workdir=home / "runs", findings=found)

    files = unpacked(path)
    assert set(files) == {
        "README.txt", "versions.json", "doctor.json", "client.jsonl",
        "run/run.json", "run/plan.json", "run/log.jsonl", "run/files.json",
        "server/info.json", "server/status.json", "server/runs.json", "server/log.jsonl",
    }  # fmt: skip
    for name, content in files.items():
        for word in PLANTED:
            assert word.encode() not in content.lower(), f"{word} is in {name}"
    assert path.stat().st_mode & 0o077 == 0

    lines = [json.loads(line) for line in files["client.jsonl"].decode().splitlines()]
    assert "read ~/data/x for USER: Authorization: Bearer ***" in [x["message"] for x in lines]
    assert json.loads(files["doctor.json"])["home"] == "~"
    assert json.loads(files["server/status.json"])[0]["status"] == "online"
    assert json.loads(files["run/plan.json"])["segments"][0]["shards"] == 3
    record = json.loads(files["run/run.json"])
    assert record["run"] == "kept"
    assert record["config"]["task"]["config"]["token_features"] == 64
    assert record["server"].endswith(".invalid")
    assert (
        record["server"] == json.loads(files["doctor.json"])["checks"][0]["url"][: -len("/status")]
    )
    server_lines = [json.loads(line) for line in files["server/log.jsonl"].decode().splitlines()]
    assert [line for line in server_lines if line.get("run") == "kept"]


async def _train(server: RunningServer, workdir: Path) -> None:
    """Train a run through an address like a tunnel's, so that its folder names one."""
    from omega21 import AsyncClient

    carrier = TunnelCarrier(server.address)
    async with AsyncClient(NGROK, token=TOKEN, transport=carrier) as client:
        await train(client, tiny("kept"), workdir=workdir)


@pytest.mark.usefixtures("home")
def test_a_server_that_is_gone_is_said(tmp_path: Path) -> None:
    with start_server(tmp_path / "server", "--threads", "1") as server:
        address = server.address
    path = tmp_path / "bundle.zip"
    with Client(address, attempts=1) as client:
        write_bundle(path, client=client)
    files = unpacked(path)
    assert files["server/info.txt"].startswith(b"Unreachable: ")
    assert files["server/log.txt"].startswith(b"Unreachable: ")
    assert not [name for name in files if name.startswith("run/")]
    assert json.loads(files["versions.json"])["packages"]["httpx"]


@pytest.mark.usefixtures("home")
def test_what_is_there_stays_when_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        write_bundle(tmp_path / "nowhere" / "bundle.zip")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ana/x and /Users/Ana/y", "~/x and ~/y"),
        (r"C:\Users\ana\x", r"~\x"),
        ("https://a.b.trycloudflare.com:443/x", "https://server-1.invalid:443/x"),
        ("http://127.0.0.1:8000/x http://localhost/ http://[::1]:5/", None),
        (
            "a.ngrok.app b.ngrok.app a.ngrok.app",
            "server-1.invalid server-2.invalid server-1.invalid",
        ),
        ("10.1.2.3:22 0.0.0.0 127.0.0.1", "server-1.invalid:22 0.0.0.0 127.0.0.1"),
        ("omega21 0.1.0 at step 3", None),
    ],
)
def test_stand_ins(text: str, expected: str | None) -> None:
    assert Redactor().text(text) == (text if expected is None else expected)


def test_secrets_of_a_document_go_by_their_names() -> None:
    scrubber = Redactor(secrets=["hunter2"], names=["ana"])
    document = {"token": 5, "my_token": ["x"], "token_features": 64, "of ana": ["hunter2", None]}
    assert scrubber.document(document) == {
        "token": "***",
        "my_token": "***",
        "token_features": 64,
        "of USER": ["***", None],
    }
    assert scrubber.text("banana of Ana") == "banana of USER"
