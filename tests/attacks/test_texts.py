"""A server that puts escapes into all of its texts acts on no terminal, log or report."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.harms import READ_BY
from tests.attacks.hostile import Harm, HostileServer, Recorded, Reply, faults_of, run_client
from tests.attacks.test_hostile import record_run

ACTING = "\x1b]0;owned\x07\x1b]52;c;aGk=\x07\x1b[2J\u202e\u2066\u009b31m"
NAMES = {"run", "id", "sha256", "nombre", "version", "protocol", "server_id", "state", "kind"}
"""Fields that a client reads as what they are, and refuses in another form."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record_run(tmp_path_factory.mktemp("recorded"))


def spoiled(value: Any, *, all_of_them: bool) -> Any:
    """Return a document with the escapes in its texts: in all, or in those that stay readable."""
    match value:
        case dict():
            return {
                key: each
                if key in NAMES and not all_of_them and isinstance(each, str)
                else spoiled(each, all_of_them=all_of_them)
                for key, each in value.items()
            }
        case list():
            return [spoiled(each, all_of_them=all_of_them) for each in value]
        case str():
            return value + ACTING
    return value


def texts(*, all_of_them: bool) -> Callable[[Reply], Reply]:
    def change(reply: Reply) -> Reply:
        document = spoiled(json.loads(reply.body), all_of_them=all_of_them)
        return reply.with_body(json.dumps(document).encode())

    return change


def problem(_reply: Reply) -> Reply:
    document = {
        "type": "about:blank",
        "title": ACTING,
        "status": 422,
        "code": f"unknown_{ACTING}",
        "detail": f"detail {ACTING}",
        "hint": f"hint {ACTING}",
    }
    return Reply(422, {"Content-Type": "application/problem+json"}, json.dumps(document).encode())


def page(_reply: Reply) -> Reply:
    headers = {"Content-Type": "text/html", "Ngrok-Error-Code": "ERR_NGROK_9\x9b31m"}
    return Reply(404, headers, f"<html>{ACTING}</html>".encode())


CHANGES = {
    "every text": texts(all_of_them=True),
    "free text": texts(all_of_them=False),
    "a problem": problem,
    "a page of the tunnel": page,
}


@pytest.fixture
def hostile(recorded: Recorded) -> Iterator[HostileServer]:
    with HostileServer(recorded).running() as server:
        yield server


READ = [at for at in READ_BY if not at.startswith("?") and at != "/evaluations"]  # none were made
CASES = [
    *((at, change) for at in READ for change in ("every text", "free text")),
    *(
        (at, change)
        for at in ("/info", "/status")
        for change in ("a problem", "a page of the tunnel")
    ),
]


@pytest.mark.parametrize(("at", "change"), CASES)
def test_no_text_of_a_server_acts(
    at: str, change: str, hostile: HostileServer, tmp_path: Path
) -> None:
    hostile.harm = Harm(change, READ_BY[at], at, CHANGES[change])
    ended = run_client((*READ_BY[at], "-v"), hostile, tmp_path)
    assert hostile.harmed
    assert not [fault for fault in faults_of(ended) if fault.startswith("wrote")]
    for file in (each for each in tmp_path.rglob("*") if each.suffix in {".jsonl", ".html", ".md"}):
        assert not set(file.read_text("utf-8")) & set("\x1b\x07\x9b\u202e\u2066"), file
