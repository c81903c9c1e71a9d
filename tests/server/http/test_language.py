"""A request is answered in the language of whoever asks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from omega21 import Client
from omega21.language import speaking
from omega21.protocol.errors import InvalidShard, RunFolderConflict, UnknownRun
from omega21.protocol.names import DEFAULT_RUN
from omega21.protocol.shards import SHARD_MEDIA_TYPE
from tests.servers import RunningServer, start_server


@pytest.fixture(scope="module")
def spanish_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on a machine whose own language is Spanish."""
    folder = tmp_path_factory.mktemp("spanish") / "data"
    environment = {"LANGUAGE": "es", "LANG": "es_ES.UTF-8"}
    with start_server(folder, "--threads", "1", environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def http(spanish_server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=spanish_server.address, timeout=60) as client:
        yield client


NO_SHARD = "0" * 64
JSON = {"Content-Type": "application/json"}
SHARD = {"Content-Type": SHARD_MEDIA_TYPE, "Content-Encoding": "zstd"}
REFUSED: list[tuple[str, str, dict[str, Any], str, str]] = [
    (
        *("GET", "/runs/nothing", {}),
        "no run 'nothing' on this server; list the runs with `omega21 runs`, or create it",
        "no hay ninguna ejecución 'nothing' en este servidor; consulta las ejecuciones con "
        "`omega21 runs`, o créala",
    ),
    ("GET", "/nowhere", {}, "there is no GET /nowhere; see", "no existe GET /nowhere; consulta"),
    (
        *("POST", "/feedback_dendritas", {"json": {"ajustes_aplicados": [0] * 3}}),
        "List should have at least 16 items after validation, not 3",
        "la lista tiene que tener al menos 16 elementos, y tiene 3",
    ),
    (
        *("POST", "/train_layer2", {"json": {"samples": []}}),
        "the batch is empty; send at least one sample",
        "el lote está vacío; envía al menos una muestra",
    ),
    (
        *("POST", "/train_layer2", {"content": b"{", "headers": JSON}),
        "the body is not valid JSON",
        "el cuerpo no es JSON válido",
    ),
    # Answered by a thread that works for the request.
    (
        *(
            "PUT",
            f"/shards/{NO_SHARD}",
            {"content": b"nonsense", "headers": SHARD},
        ),
        "the body is not a zstd frame",
        "el cuerpo no es una trama zstd",
    ),
    # Refused before it comes to a router.
    (
        *("GET", "/status", {"headers": {"Host": "elsewhere.example"}}),
        "start it with a token",
        "arráncalo con un token",
    ),
]


@pytest.mark.parametrize(("method", "path", "sent", "english", "spanish"), REFUSED)
def test_a_problem_speaks_the_language_asked_for(
    http: httpx.Client, method: str, path: str, sent: dict[str, Any], english: str, spanish: str
) -> None:
    def ask(**accepted: str) -> tuple[str, dict[str, Any]]:
        headers = {**sent.get("headers", {}), **accepted}
        reply = http.request(method, path, **{**sent, "headers": headers})
        return reply.headers["Content-Language"], reply.json()

    language, plain = ask()
    assert (language, english in plain["detail"]) == ("en", True)
    for other in ("en", "de-DE, fr;q=0.5"):
        assert ask(**{"Accept-Language": other}) == ("en", plain)
    language, spoken = ask(**{"Accept-Language": "es-ES, es;q=0.9, en;q=0.8"})
    assert (language, spanish in spoken["detail"]) == ("es", True)
    assert {**spoken, "detail": plain["detail"]} == plain


def test_the_client_asks_in_the_language_that_it_speaks(spanish_server: RunningServer) -> None:
    with Client(spanish_server.address) as client:
        with speaking("es"), pytest.raises(UnknownRun, match="no hay ninguna ejecución 'nada'"):
            client.api.runs.state("nada")
        with pytest.raises(UnknownRun, match="no run 'nothing' on this server"):
            client.api.runs.state("nothing")
        with speaking("es"), pytest.raises(InvalidShard, match="no es una trama zstd"):
            client.api.shards.put(NO_SHARD, b"nonsense")
        assert client.api.runs.state(DEFAULT_RUN).state == "idle"


def test_a_server_that_cannot_start_says_so_in_its_own_language(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database, and long enough " * 100)
    command = [sys.executable, "-m", "omega21.server", "--data-dir", str(tmp_path), "--port", "0"]
    ended = subprocess.run(
        command,
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "LANGUAGE": "es"},
    )
    assert ended.returncode == RunFolderConflict.exit_code
    assert "error: " in ended.stderr
    assert "ledger.sqlite no se puede leer" in ended.stderr
    assert "recupéralo, o usa otro --data-dir" in ended.stderr
