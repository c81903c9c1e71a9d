"""A server behind a tunnel, as processes.

The providers are stand-ins at their own edge (tests/tunnels.py): a module `ngrok`, a program
`cloudflared`. All that is ours is real: the server, its supervisor, its watch, the client.
"""

import hashlib
import http.server
import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from omega21 import AsyncClient
from omega21.protocol.errors import InvalidRequest, TunnelLost, TunnelNotSetUp, TunnelRefused
from omega21.server.auth.token import server_token
from tests.client.runs import done, tiny, train
from tests.servers import RunningServer, start_server
from tests.tunnels import FakeCloudflared, FakeNgrok

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

AUTHTOKEN = "an-authtoken-of-ngrok"
TRAIN_LINE = re.compile(r"omega21 train (\S+)\n")
TOKEN_LINE = re.compile(r"token: (\S+)\n")
RESUME_LINE = re.compile(r"omega21 resume --url (\S+)\n")


@pytest.fixture
def ngrok(tmp_path: Path) -> FakeNgrok:
    return FakeNgrok(tmp_path / "ngrok")


@pytest.fixture
def cloudflared(tmp_path: Path) -> FakeCloudflared:
    return FakeCloudflared(tmp_path / "cloudflared")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def next_line(server: RunningServer) -> str:
    assert server.process.stdout is not None
    return server.process.stdout.readline()


def read(pattern: re.Pattern[str], line: str) -> tuple[str, ...]:
    found = pattern.fullmatch(line)
    assert found, line
    return found.groups()


def read_lines(pattern: re.Pattern[str], server: RunningServer) -> tuple[str, str]:
    """Read the line to copy, and the token after it, which is no part of it."""
    (address,) = read(pattern, next_line(server))
    (token,) = read(TOKEN_LINE, next_line(server))
    return address, token


def arguments_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8")


def wait_for_end(process: int) -> None:
    """Wait until the process behind a descriptor is gone."""
    with open(process, closefd=True):
        assert select.select([process], [], [], 60)[0], "it has not ended in a minute"


# --- ngrok ---


@pytest.mark.anyio
async def test_a_client_trains_through_the_tunnel_over_a_crash_and_a_new_address(
    tmp_path: Path, ngrok: FakeNgrok
) -> None:
    environment = {"PYTHONPATH": str(ngrok.folder), "NGROK_AUTHTOKEN": AUTHTOKEN}
    options = ("--tunnel", "ngrok", "--threads", "1")
    with start_server(tmp_path / "data", *options, environment=environment) as server:
        public, token = read_lines(TRAIN_LINE, server)
        assert token == server_token(server.data_dir)
        async with httpx.AsyncClient() as anybody:
            for place in (public, server.address):
                assert (await anybody.get(f"{place}/status")).status_code == 401
        async with AsyncClient(public, token=token) as client:
            first = done(await train(client, tiny("a"), workdir=tmp_path / "runs"))
            server.kill_child()
            # The address is the one before: the tunnel is the parent's.
            again = tiny("b", samples=64)
            assert done(await train(client, again, workdir=tmp_path / "runs")).state.step == 1

        ngrok.stop_session()
        moved, again_token = read_lines(RESUME_LINE, server)
        assert moved != public
        assert again_token == token
        async with AsyncClient(moved, token=token) as client:
            assert (await client.api.runs.state("a")).digest == first.state.digest

        for process in (server.process.pid, server.child_pid()):
            assert token not in arguments_of(process)
            assert AUTHTOKEN not in arguments_of(process)
        assert token not in server.log
        assert AUTHTOKEN not in server.log


def test_a_token_of_ones_own_is_kept_behind_a_tunnel(tmp_path: Path, ngrok: FakeNgrok) -> None:
    environment = {"PYTHONPATH": str(ngrok.folder), "NGROK_AUTHTOKEN": AUTHTOKEN}
    data = tmp_path / "data"
    with start_server(
        data, "--tunnel", "auto", token="of-ones-own", environment=environment
    ) as server:
        _, token = read_lines(TRAIN_LINE, server)
        assert token == "of-ones-own"
        assert not (data / "token").exists()


# --- cloudflared ---


def test_a_quick_tunnel_is_opened_again_when_its_program_dies_and_ends_with_the_server(
    tmp_path: Path, cloudflared: FakeCloudflared
) -> None:
    options = ("--tunnel", "cloudflared", "--cloudflared", str(cloudflared.path))
    with start_server(tmp_path / "data", *options) as server:
        public, _ = read_lines(TRAIN_LINE, server)
        assert public == "https://quick-words-1.trycloudflare.com"
        assert f"http://127.0.0.1:{server.port}" in cloudflared.options(1)

        cloudflared.kill()
        moved, _ = read_lines(RESUME_LINE, server)
        assert moved == "https://quick-words-2.trycloudflare.com"

        program = cloudflared.open_process()
        assert server.stop() == 0
        wait_for_end(program)


def test_the_program_does_not_outlive_a_server_that_is_killed(
    tmp_path: Path, cloudflared: FakeCloudflared
) -> None:
    options = ("--tunnel", "cloudflared", "--cloudflared", str(cloudflared.path))
    with start_server(tmp_path / "data", *options) as server:
        program = cloudflared.open_process()
        server.process.kill()
        wait_for_end(program)


# --- what cannot be opened ---


def refused_start(tmp_path: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Start a server that cannot have its tunnel; return its status and the one line it says."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OMEGA21_")}
    finished = subprocess.run(
        [sys.executable, "-m", "omega21.server", "--port", "0", *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        env={**kept, "PATH": "/nowhere", **environment},
        timeout=60,
    )
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert finished.stderr.startswith("error: ")
    return finished.returncode, finished.stderr


@pytest.mark.parametrize(
    ("words", "code", "status", "said"),
    [
        pytest.param(
            "The authtoken you specified does not look like one.\nYour authtoken: TOKEN",
            "ERR_NGROK_105",
            TunnelRefused,
            "Your authtoken: … ERR_NGROK_105; copy the authtoken from https://dashboard.ngrok.com/",
            id="bad token",
        ),
        pytest.param(
            "Usage of ngrok requires a verified account and authtoken.",
            "ERR_NGROK_4018",
            TunnelRefused,
            "ERR_NGROK_4018; copy the authtoken from",
            id="no token",
        ),
        pytest.param(
            "Your account is limited to 1 simultaneous ngrok agent sessions.",
            "ERR_NGROK_108",
            TunnelRefused,
            "end another one, or use --tunnel cloudflared",
            id="too many",
        ),
        pytest.param(
            "You have used up your requests.",
            "ERR_NGROK_727",
            TunnelRefused,
            "the account's quota is used up",
            id="quota",
        ),
        pytest.param(
            "failed to establish tcp connection",
            "",
            TunnelLost,
            "ngrok was not reached: failed to connect session failed to establish tcp connection; "
            "check this machine's own connection",
            id="no network",
        ),
    ],
)
def test_what_ngrok_says_is_named_in_one_line(
    tmp_path: Path,
    ngrok: FakeNgrok,
    words: str,
    code: str,
    status: type[TunnelRefused | TunnelLost],
    said: str,
) -> None:
    ngrok.fail(words, code)
    environment = {"PYTHONPATH": str(ngrok.folder), "NGROK_AUTHTOKEN": AUTHTOKEN}
    returned, line = refused_start(tmp_path, "--tunnel", "ngrok", **environment)
    assert returned == status.exit_code
    assert said in line
    assert AUTHTOKEN not in line


_REAL_SDK = """
import sys
import ngrok
real = ngrok.SessionBuilder
ngrok.SessionBuilder = lambda: real().server_addr("127.0.0.1:1")
from omega21.server.__main__ import main
sys.exit(main(["--port", "0", "--tunnel", "ngrok", "--data-dir", "data"]))
"""


def test_the_real_sdk_without_a_network_is_named_and_ends_in_order(tmp_path: Path) -> None:
    environment = {**os.environ, "NGROK_AUTHTOKEN": AUTHTOKEN}
    for _ in range(4):  # its threads used to abort the interpreter at every second end
        finished = subprocess.run(
            [sys.executable, "-c", _REAL_SDK],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=60,
        )
        assert finished.returncode == TunnelLost.exit_code, finished.stderr
        assert "error: ngrok was not reached: " in finished.stderr


@pytest.mark.parametrize(
    ("behaviour", "status", "said"),
    [
        ("no network", TunnelLost, "no such host"),
        ("refused", TunnelRefused, "wait some minutes, or use --tunnel ngrok"),
        ("never connected", TunnelLost, "failed to dial to edge"),
    ],
)
def test_what_cloudflared_logs_is_named_in_one_line(
    tmp_path: Path,
    cloudflared: FakeCloudflared,
    behaviour: str,
    status: type[TunnelRefused | TunnelLost],
    said: str,
) -> None:
    cloudflared.behave(behaviour)
    options = ("--tunnel", "cloudflared", "--cloudflared", str(cloudflared.path))
    returned, line = refused_start(tmp_path, *options)
    assert returned == status.exit_code
    assert said in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(("--tunnel", "ngrok"), "there is no token for ngrok; set NGROK", id="ngrok"),
        pytest.param(("--tunnel", "cloudflared"), "no program named cloudflared", id="program"),
        pytest.param(("--tunnel", "auto"), "neither a token for ngrok nor the program", id="auto"),
        pytest.param(
            ("--tunnel", "cloudflared", "--cloudflared", "/nowhere/cloudflared"),
            "there is no program at /nowhere/cloudflared",
            id="path",
        ),
        pytest.param(
            ("--tunnel", "auto", "--cloudflared", "https://example.org/cloudflared"),
            "has no SHA-256; write it as URL#sha256=DIGEST",
            id="url without digest",
        ),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    returned, line = refused_start(tmp_path, *options)
    assert returned == TunnelNotSetUp.exit_code
    assert said in line


def test_behind_a_tunnel_it_listens_on_loopback_only(
    tmp_path: Path, cloudflared: FakeCloudflared
) -> None:
    options = ("--tunnel", "cloudflared", "--cloudflared", str(cloudflared.path))
    returned, line = refused_start(tmp_path, *options, "--host", "0.0.0.0")
    assert returned == InvalidRequest.exit_code
    assert "listens on loopback only, not on 0.0.0.0" in line
    assert cloudflared.starts == 0


# --- a program from a URL ---


@contextmanager
def files_at(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            serving.shutdown()
            thread.join()


def test_a_downloaded_program_runs_only_with_the_digest_that_was_given(
    tmp_path: Path, cloudflared: FakeCloudflared
) -> None:
    right = hashlib.sha256(cloudflared.path.read_bytes()).hexdigest()
    data = tmp_path / "data"
    with files_at(cloudflared.folder) as place:
        wrong = f"{place}/cloudflared#sha256={'0' * 64}"
        options = ("--data-dir", str(data), "--tunnel", "cloudflared", "--cloudflared")
        returned, line = refused_start(tmp_path, *options, wrong)
        assert returned == TunnelNotSetUp.exit_code
        assert f"has SHA-256 {right}, not {'0' * 64}: it is not executed" in line
        assert cloudflared.starts == 0
        assert list((data / "programs").iterdir()) == []

        missing = f"{place}/other#sha256={right}"
        returned, line = refused_start(tmp_path, *options, missing)
        assert returned == TunnelLost.exit_code
        assert "404" in line

        url = f"{place}/cloudflared#sha256={right}"
        with start_server(data, "--tunnel", "auto", "--cloudflared", url) as server:
            assert "quick-words-1" in next_line(server)

        # What was altered on the disk since is fetched anew, not executed.
        (kept,) = (data / "programs").iterdir()
        kept.write_text("#!/bin/sh\ntouch executed\n")
        with start_server(data, "--tunnel", "auto", "--cloudflared", url) as server:
            assert "quick-words-2" in next_line(server)
