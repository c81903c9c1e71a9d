"""Which server a command means, how it is let in, and what is remembered of it."""

import http.server
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from omega21.cli.app import run
from tests.cli.conftest import COMMAND, TOKEN
from tests.nginx import start_nginx
from tests.servers import RunningServer, start_server

SMALL = ["--samples", "32", "--batch-size", "16", "--validation", "0"]


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty memory of servers, and no server named in the environment."""
    for name in ("COLAB_SERVER_URL", "OMEGA21_TOKEN", "OMEGA21_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMEGA21_SERVERS", str(tmp_path / "servers"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "servers"


def used(server: RunningServer, token: str = TOKEN) -> None:
    """Use a server once, so that it is remembered."""
    assert run(["status", server.address, "--token", token, "--quiet"]) == 0


def test_later_commands_need_neither_address_nor_token(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    used(server)
    assert capsys.readouterr() == ("", "")

    for command in (["status"], ["metrics"], ["diagnose"]):
        assert run([*command, "--json"]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("{")
        assert f"the server used last, {server.address}" in err


def test_only_the_user_can_read_what_is_remembered(server: RunningServer, remembered: Path) -> None:
    used(server)
    (path,) = remembered.iterdir()
    assert TOKEN in path.read_text()
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(remembered.stat().st_mode) == 0o700


def test_what_is_forgotten_is_gone(
    server: RunningServer, remembered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used(server)
    assert run(["forget", "https://never.example", "--json"]) == 0
    assert run(["forget", server.address + "/", "--json"]) == 0
    assert capsys.readouterr().out == '{"forgotten": 0}\n{"forgotten": 1}\n'
    assert list(remembered.iterdir()) == []
    assert run(["status", server.address]) == 18


def test_what_cannot_be_read_is_named_and_can_be_forgotten(
    server: RunningServer, remembered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used(server)
    (path,) = remembered.iterdir()
    for text in ("{", '{"format": 1}', '{"format": 99}'):
        path.write_text(text)
        assert run(["status"]) == 2
        assert "omega21 forget" in capsys.readouterr().err
    assert run(["forget"]) == 0
    assert list(remembered.iterdir()) == []


def test_a_server_that_refused_is_not_remembered(server: RunningServer, remembered: Path) -> None:
    assert run(["status", server.address, "--token", "guess"]) == 18
    assert run(["status", server.address, "--token", TOKEN, "--run", "nobody"]) == 21
    assert not remembered.exists()


def test_nothing_is_remembered_where_that_is_not_wanted(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMEGA21_SERVERS", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    used(server)
    assert list(tmp_path.rglob("*.json")) == []


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str]]]:
    """A service at another address, and the credentials that were sent to it."""
    seen: list[str] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", "none"))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{site.server_address[1]}", seen
        site.shutdown()
        thread.join()


def test_a_token_goes_to_its_own_address_alone(
    server: RunningServer, stranger: tuple[str, list[str]]
) -> None:
    used(server)
    address, seen = stranger
    assert run(["status", address]) == 73
    assert seen == ["none"]


def test_the_token_of_another_server_is_named_as_such(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used(server)
    with start_server(tmp_path / "other", "--threads", "1", token="another-token") as other:
        assert run(["status", other.address, "--token", TOKEN]) == 18
        line = capsys.readouterr().err
        assert f"this is the token of {server.address}, not of {other.address}" in line
        assert line.count("\n") == 1
        assert TOKEN not in line

        used(other, token="another-token")
        other.stop()
        other.token = "a-third-token"
        other.restart()
        assert run(["status"]) == 18
        line = capsys.readouterr().err
        assert f"{other.address} does not take the token remembered for it" in line
        assert "OMEGA21_TOKEN or --token-file" in line
        used(other, token="a-third-token")
        assert run(["status", "--quiet"]) == 0


def test_a_file_holds_the_token(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert run(["status", server.address, "--token-file", str(path), "--json"]) == 0
    for text in ("", "two words"):
        path.write_text(text)
        assert run(["status", server.address, "--token-file", str(path)]) == 2
        assert "is not a token" in capsys.readouterr().err
    assert run(["status", server.address, "--token-file", "nowhere"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_an_address_without_encryption_gets_no_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "http://gpu.example:8000", "--token", "secret"]) == 13
    line = capsys.readouterr().err
    assert "not encrypted" in line
    assert "https://" in line
    assert "secret" not in line


def test_ones_own_authority_is_remembered_with_the_server(
    server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with start_nginx(tmp_path / "nginx", server.port) as proxy:
        arguments = ["status", proxy.address, "--token", TOKEN, "--quiet"]
        assert run(arguments) == 73
        assert "--ca FILE" in capsys.readouterr().err
        assert run([*arguments, "--ca", str(proxy.ca)]) == 0
        assert run(["status", "--quiet"]) == 0
        assert run(["forget", "--quiet"]) == 0
        monkeypatch.setenv("OMEGA21_CA", str(proxy.ca))
        assert run(arguments) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
def test_on_a_terminal_the_token_is_asked_for_and_not_shown(
    server: RunningServer, environment: dict[str, str], tmp_path: Path
) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "status", server.address, "--json"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
        cwd=tmp_path,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while b"(not shown): " not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, f"{TOKEN}\n".encode())
    out, _ = process.communicate()
    os.close(ours)

    assert process.returncode == 0
    assert server.address.encode() in shown
    assert out.startswith(b"{")
    assert TOKEN in next((tmp_path / "servers").iterdir()).read_text()


def test_train_goes_to_the_server_used_last_unless_it_is_to_stay_here(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ["train", *SMALL, "--workdir", "w", "--json"]
    used(server)
    assert run([*order, "--run", "there"]) == 0
    assert f"the server used last, {server.address} (--local: this machine)" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "w" / "there" / "server").exists()

    assert run([*order, "--run", "here", "--local"]) == 0
    assert run([*order, "--run", "here"]) == 0  # a run goes on where it was
    assert "the server used last" not in capsys.readouterr().err
    assert (tmp_path / "w" / "here" / "server").is_dir()
    assert run(["runs", "show", "here", "--url", server.address]) == 21


def test_a_server_is_remembered_while_it_trains(server: RunningServer, remembered: Path) -> None:
    arguments = ["train", server.address, "--token", TOKEN, *SMALL, "--workdir", "w", "--quiet"]
    assert run([*arguments, "--run", "seen"]) == 0
    (path,) = remembered.iterdir()
    assert f'"server_id": "{(server.data_dir / "server_id").read_text().strip()}"' in (
        path.read_text()
    )


def test_a_run_goes_on_at_the_new_address_of_its_server(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--workdir", "w", "--run", "moved"]
    with start_nginx(tmp_path / "first", server.port) as first:
        how = ["--token", TOKEN, "--ca", str(first.ca)]
        assert run(["train", first.address, *how, *SMALL, *place, "--quiet"]) == 0
    _begin_another_segment(tmp_path / "w" / "moved")
    assert run(["resume", "moved", "--workdir", "w", "--patience", "0", "--quiet"]) == 76
    assert "--url URL" in capsys.readouterr().err

    with start_nginx(tmp_path / "second", server.port) as second:
        how = ["--token", TOKEN, "--ca", str(second.ca)]
        assert run(["resume", "moved", "--url", second.address, *how, "--workdir", "w"]) == 0
        assert "the same server as before, at a new address" in capsys.readouterr().err

        _begin_another_segment(tmp_path / "w" / "moved")
        assert run(["resume", "moved", "--workdir", "w", "--quiet"]) == 0  # no option any more

    _begin_another_segment(tmp_path / "w" / "moved")
    with start_server(tmp_path / "new", "--threads", "1", token="new") as other:
        url = ["--url", other.address, "--token", "new"]
        assert run(["resume", "moved", *url, "--workdir", "w"]) == 0
        told = " ".join(capsys.readouterr().err.split())
        assert "this is not the server that the run was on last" in told


def _begin_another_segment(folder: Path) -> None:
    """Plan the next samples of a run, as a command does that is killed right afterwards."""
    from omega21.client.request.request import TrainRequest, next_segment
    from omega21.client.store.run_folder import RunFolder

    with RunFolder.open(folder) as opened:
        order = TrainRequest(run=opened.record.run, samples=32, batch_size=16, validation=0)
        new = next_segment(order, opened.segments, file=None)
        opened.put_segment(len(opened.segments), new.segment)
