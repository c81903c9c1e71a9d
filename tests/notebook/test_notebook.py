"""The cell and the notebook as a person uses them, in a Python that has torch and little else.

The kernel is a real one, and so are pip, the server, nginx with TLS, and the client. The tunnel's
provider is a stand-in at its own edge (tests/tunnels.py): a wheel named `ngrok`, which the cell
installs like the real one, and whose address is nginx's.
"""

import os
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import nbformat
import pytest

from omega21.server.auth.token import server_token
from tests.nginx import Nginx, start_nginx
from tests.notebook.bare import BarePython, add_module_wheel, make_bare_python
from tests.notebook.kernels import code_cells, live_notebook
from tests.tunnels import NGROK

ROOT = Path(__file__).parents[2]
CELL = ROOT / "COLAB_SERVER_OMEGA21_V4_UNIFICADO.py"
NOTEBOOK = ROOT / "notebooks" / "omega21_colab.ipynb"
CLIENT = [sys.executable, "-c", "from omega21.cli.app import main; main()"]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="links to files of this environment"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> BarePython:
    return make_bare_python(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def kernel(bare: BarePython, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        jupyter = tmp_path_factory.mktemp("jupyter")
        patch.setenv("JUPYTER_PATH", str(jupyter))
        yield bare.add_kernel(jupyter)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Nginx]:
    """A proxy with TLS, before a port where a server will listen."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start_nginx(tmp_path / "nginx", port) as running:
        yield running


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def environment(bare: BarePython, home: Path, **more: str) -> dict[str, str]:
    """The environment of a notebook: a home of its own, and nothing of these tests."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("OMEGA21_", "PYTHON", "PIP_", "VIRTUAL_ENV"))
    }
    return {**kept, **bare.environment, "HOME": str(home), **more}


def client(line: str, *more: str, home: Path, token: str) -> subprocess.CompletedProcess[str]:
    """Type a line that a notebook showed into the shell of another home."""
    home.mkdir(exist_ok=True)
    program, *arguments = shlex.split(line)
    assert program == "omega21"
    return subprocess.run(
        [*CLIENT, *arguments, *more],
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
        env={**os.environ, "HOME": str(home), "XDG_DATA_HOME": str(home), "OMEGA21_TOKEN": token},
    )


@pytest.mark.anyio
async def test_one_cell_serves_a_fresh_client_through_tls_with_a_token(
    bare: BarePython, kernel: str, proxy: Nginx, tmp_path: Path
) -> None:
    assert not any(map(bare.has, ["fastapi", "pydantic", "httpx", "omega21"]))
    add_module_wheel(bare.wheels, "ngrok", "1.4.0", NGROK)
    source = CELL.read_text(encoding="utf-8").replace("PORT = 0 ", f"PORT = {proxy.backend} ")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    given = {"NGROK_AUTHTOKEN": "an-authtoken", "FAKE_NGROK_URL": proxy.address}
    home = tmp_path / "home"
    home.mkdir()
    async with live_notebook(
        notebook, kernel=kernel, folder=home, environment=environment(bare, home, **given)
    ) as live:
        live.begin(0)
        assert "fastapi" in await live.line("installed: ")
        line = await live.line("omega21 train ")
        token = server_token(home / "omega21-data")
        assert line == f"omega21 train {proxy.address}"
        assert await live.line("token: ") == f"token: {token}"

        order = ("--run", "here", "--samples", "32", "--batch-size", "16", "--validation", "8")
        trained = client(line, *order, "--ca", str(proxy.ca), home=tmp_path / "pc", token=token)
        assert trained.returncode == 0, trained.stderr
        assert "made: 32 samples" in trained.stdout + trained.stderr
        await live.shows("here: idle, step 2 of 2")

        trust = ssl.create_default_context(cafile=proxy.ca)
        async with httpx.AsyncClient(verify=trust, base_url=proxy.address) as nobody:
            assert (await nobody.get("/health")).json()["alive"] is True
            for path in ("/status", "/runs", "/metricas", "/info", "/openapi.json", "/docs", "/x"):
                assert (await nobody.get(path)).status_code == 401, path
            assert (await nobody.put("/runs/new", json={"id": "a" * 32})).status_code == 401

        await live.interrupt()
        assert live.text.rstrip().endswith("stopped")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", proxy.backend)).close()
    # What was there is as it was: links, not installations of its own.
    (site,) = (bare.folder / "venv" / "lib").glob("python*/site-packages")
    assert (site / "fastapi").is_dir()
    assert not any((site / name).exists() for name in ("torch", "numpy", "omega21", "typer"))


@pytest.mark.anyio
async def test_the_notebook_does_the_same_in_steps(
    bare: BarePython, kernel: str, tmp_path: Path
) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    prepare, mirror, start, watch, stop = code_cells(NOTEBOOK)
    choice = notebook.cells[mirror]
    choice.source = choice.source.replace('MIRROR = ""', f'MIRROR = "{tmp_path / "drive"}"')
    given = environment(bare, tmp_path, OMEGA21_TUNNEL="none", MPLBACKEND="agg")
    async with live_notebook(notebook, kernel=kernel, folder=tmp_path, environment=given) as live:
        assert "error" not in await live.run(prepare)
        assert str(tmp_path / "drive") in await live.run(mirror)
        line, shown, dashboard = (await live.run(start)).splitlines()[-3:]
        assert dashboard.startswith("dashboard: http://127.0.0.1:")
        token = shown.removeprefix("token: ")
        live.begin(watch)
        await live.shows("waiting for a run")
        order = ("--run", "drawn", "--samples", "32", "--batch-size", "16", "--validation", "0")
        trained = client(line, *order, home=tmp_path / "pc", token=token)
        assert trained.returncode == 0, trained.stderr
        await live.picture()
        await live.interrupt()
        assert "no longer watching; the server keeps running" in live.text
        assert "the server is already running" in await live.run(start)
        assert "stopped" in await live.run(stop)
        assert "the server is not running" in await live.run(watch)
    copies = [path.read_text() for path in (tmp_path / "drive" / "manifests").iterdir()]
    assert any("000000000002.safetensors" in copy for copy in copies)


def test_the_cell_runs_as_a_plain_program_too(bare: BarePython, tmp_path: Path) -> None:
    given = environment(bare, tmp_path, OMEGA21_TUNNEL="none")
    with subprocess.Popen(
        [bare.python, CELL], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=given
    ) as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("omega21 train http://127.0.0.1:"):
            assert line, "the program ended"
        process.send_signal(2)
        assert process.stdout.read().rstrip().endswith("stopped")
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(
            {"PIP_FIND_LINKS": "", "PIP_NO_INDEX": "", "PIP_INDEX_URL": "http://127.0.0.1:1/"},
            "cannot be installed without a network; give this notebook access to the internet",
            id="no network",
        ),
        pytest.param(
            {"OMEGA21_TUNNEL": "auto", "PATH": "/nowhere"},
            "there is neither a token for ngrok nor the program cloudflared; set NGROK_AUTHTOKEN",
            id="no tunnel",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    bare: BarePython, tmp_path: Path, given: dict[str, str], said: str
) -> None:
    alone = bare
    if "PIP_INDEX_URL" in given:  # an environment in which nothing was installed yet
        alone = make_bare_python(tmp_path / "alone")
    finished = subprocess.run(
        [alone.python, CELL],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(bare, tmp_path, PIP_RETRIES="1", **given),
    )
    assert finished.returncode == 1
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert said in finished.stderr


def test_a_copy_with_a_part_missing_says_so(bare: BarePython, tmp_path: Path) -> None:
    lines = CELL.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "cell.py").write_text("".join(lines[:200] + lines[201:]), encoding="utf-8")
    finished = subprocess.run(
        [bare.python, "cell.py"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(bare, tmp_path),
    )
    assert "error: this file is not whole; copy it again" in finished.stdout
