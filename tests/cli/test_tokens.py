"""A token on its way into a command: refused where it comes in, shown nowhere."""

from pathlib import Path

import pytest

from tests.cli.conftest import TOKEN, Omega21
from tests.protocol.auth.test_token import NO_TOKENS, SECRET
from tests.servers import RunningServer

CARRIED = {name: NO_TOKENS[name] for name in ("blank", "CR", "escape", "ellipsis", "too long")}
"""Some that an argument can carry; test_token has all."""

COMMANDS = (
    ("status", "URL"),
    ("doctor", "URL", "--json"),
    ("serve", "--port", "0", "--host", "0.0.0.0"),
)


@pytest.mark.parametrize("text", CARRIED.values(), ids=CARRIED)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_what_is_no_token_is_refused_and_not_shown(
    omega21: Omega21, server: RunningServer, command: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    words = [server.address if word == "URL" else word for word in command]
    done = omega21(*words, "--token", text)
    assert done.status == 2
    assert "--token (OMEGA21_TOKEN) is not a token" in " ".join(done.stderr.split())
    logged = "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    assert SECRET not in done.stdout + done.stderr + logged


@pytest.mark.parametrize("place", ["environment", "file"])
def test_each_source_is_named(omega21: Omega21, tmp_path: Path, place: str) -> None:
    (tmp_path / "token").write_text(f"{SECRET} {SECRET}\n")
    if place == "file":
        done = omega21("status", "http://127.0.0.1:9", "--token-file", "token")
    else:
        done = omega21("status", "http://127.0.0.1:9", OMEGA21_TOKEN=f"{SECRET} {SECRET}")
    assert done.status == 2
    assert ("--token-file token" if place == "file" else "OMEGA21_TOKEN") in done.stderr
    assert SECRET not in done.stderr


def test_a_file_of_windows_opens(omega21: Omega21, server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(f"{TOKEN}\r\n".encode("utf-8-sig"))
    assert omega21("status", server.address, "--token-file", "token").status == 0
