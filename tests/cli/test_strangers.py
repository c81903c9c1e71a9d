"""A token goes to no stranger: neither to an address that a file names, nor to who cannot prove."""

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omega21.client.known_servers import remember, remembered
from omega21.protocol.auth.proof import Prover, ProveToken
from tests.cli.conftest import TOKEN, Omega21
from tests.cli.test_servers import _begin_another_segment
from tests.servers import RunningServer

SMALL = ("--samples", "32", "--batch-size", "16", "--validation", "0", "--no-report", "-q")


@dataclass
class Stranger:
    """A service that answers as it likes, and all that was sent to it."""

    seen: list[str] = field(default_factory=list)
    proof: dict[str, Any] = field(default_factory=dict)
    prover: Prover | None = None
    address: str = ""

    def answer(self, body: bytes) -> dict[str, Any]:
        if self.prover is None:
            return self.proof
        answer = self.prover.answer(ProveToken.model_validate_json(body))
        assert answer is not None
        return answer.model_dump()


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """Answers everything with JSON; its proof is what the test says."""
    found = Stranger()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.seen.append(f"{self.path} {self.headers} {body!r}")
            document = found.answer(body) if self.path == "/proof" else {"server_id": "copied"}
            sent = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        found.address = f"http://127.0.0.1:{site.server_address[1]}"
        yield found
        site.shutdown()
        thread.join()


@pytest.fixture
def folder(omega21: Omega21, server: RunningServer, tmp_path: Path) -> Path:
    """A run that was trained on the server, whose folder a test then makes to name another."""
    how = ("--token", TOKEN, "--workdir", "w", "--run", "r", *SMALL)
    assert omega21("train", server.address, *how).status == 0
    return tmp_path / "w" / "r"


def names(folder: Path, **changes: str) -> None:
    """Make a run's folder say something else, as an archive of somebody can."""
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | changes))


COMMANDS = (
    ("resume", "r", "--patience", "0"),
    ("watch", "--run", "r", "--patience", "0"),
    ("checkpoint", "pull", "r"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_an_address_of_a_folder_gets_no_token(
    omega21: Omega21, folder: Path, stranger: Stranger, command: tuple[str, ...]
) -> None:
    stranger.prover = Prover(TOKEN)  # even if it could prove it, as who passes it on can
    _begin_another_segment(folder)
    names(folder, server=stranger.address, server_id="another")
    done = omega21(*command, "--workdir", "w", OMEGA21_TOKEN=TOKEN)
    assert done.status == 13
    assert "was not given in this command" in " ".join(done.stderr.split())
    assert stranger.address in done.stderr
    assert stranger.seen == []


@pytest.mark.parametrize(
    "proof",
    [
        {},
        {"token_needed": False},
        {"token_needed": True},
        {"token_needed": True, "share": "5e" * 256, "proof": "c4" * 32},
    ],
    ids=["no proof", "none needed", "empty", "made up"],
)
def test_who_cannot_prove_gets_no_token(
    omega21: Omega21, stranger: Stranger, proof: dict[str, Any]
) -> None:
    stranger.proof = proof
    for _again in range(2):
        omega21("status", stranger.address, "--token", TOKEN)
        omega21("doctor", stranger.address, "--json", OMEGA21_TOKEN=TOKEN)
    assert any("/proof" in one for one in stranger.seen)
    assert TOKEN not in "".join(stranger.seen)


def test_who_can_prove_gets_the_token(omega21: Omega21, stranger: Stranger) -> None:
    stranger.prover = Prover(TOKEN)
    omega21("status", stranger.address, "--token", TOKEN)
    assert TOKEN not in stranger.seen[0]
    assert f"Bearer {TOKEN}" in stranger.seen[1]


def test_the_proof_is_asked_for_once(
    omega21: Omega21, server: RunningServer, tmp_path: Path
) -> None:
    for _again in range(2):
        assert omega21("status", server.address, "--token", TOKEN).status == 0
    log = "".join(path.read_text() for path in tmp_path.rglob("client.jsonl"))
    assert log.count("POST /proof") == 1


def test_a_copied_id_is_not_followed(
    omega21: Omega21,
    folder: Path,
    stranger: Stranger,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMEGA21_SERVERS", environment["OMEGA21_SERVERS"])
    assert folder.is_dir()
    (known,) = remembered()
    remember(stranger.address, server_id=known.server_id)
    done = omega21("checkpoint", "pull", "r", "--workdir", "w", OMEGA21_TOKEN=TOKEN)
    assert f"run r on {known.address}" in done.stderr
    assert stranger.seen == []


def test_another_token_than_the_remembered_one_is_for_a_named_address(
    omega21: Omega21, server: RunningServer
) -> None:
    assert omega21("status", server.address, "--token", TOKEN).status == 0
    assert omega21("status", OMEGA21_TOKEN=TOKEN).status == 0
    assert omega21("status", OMEGA21_TOKEN="another").status == 13
    assert omega21("status", server.address, OMEGA21_TOKEN="another").status == 18
