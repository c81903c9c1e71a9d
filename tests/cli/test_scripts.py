"""The two scripts, as a person runs them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import RunningServer

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="scripts for sh")


def run_script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / name), *arguments],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env=environment,
    )


@pytest.fixture
def shell(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment in which `omega21` is the one of these tests."""
    command = tmp_path / "omega21"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{_MAIN}' \"$@\"\n")
    command.chmod(0o755)
    return {**environment, "PATH": f"{tmp_path}:{environment['PATH']}"}


_MAIN = "from omega21.cli.app import main; main()"


def test_conectar_trains_on_the_server(
    server: RunningServer, server_environment: dict[str, str], shell: dict[str, str], tmp_path: Path
) -> None:
    environment = {**shell, **server_environment}
    options = ["--muestras", "32", "--lote", "16", "--validacion", "0", "--json"]
    place = ["--workdir", str(tmp_path)]
    done = run_script("conectar_colab.sh", server.address, *options, *place, **environment)

    assert done.returncode == 0, done.stderr
    assert '"samples": 32' in done.stdout


def test_conectar_takes_the_line_of_the_cell_and_keeps_its_token_out_of_arguments(
    shell: dict[str, str], tmp_path: Path
) -> None:
    script = str(shutil.copy(ROOT / "conectar_colab.sh", tmp_path))
    (tmp_path / "omega21").write_text('#!/bin/sh\necho "$OMEGA21_TOKEN|$*"\n')
    for token in (["--token", "of the line"], ["--token=of the line"]):
        line = ["omega21", "train", "https://a.b", *token, "--run", "a run"]
        done = run_script(str(script), *line, **shell)

        assert done.stdout == "of the line|train https://a.b --run a run\n"


def test_conectar_asks_for_the_address(shell: dict[str, str]) -> None:
    done = run_script("conectar_colab.sh", **shell)

    assert done.returncode == 2
    assert done.stderr.startswith("uso: ")


def test_verificar_says_what_is_there(
    server: RunningServer, server_environment: dict[str, str], shell: dict[str, str]
) -> None:
    done = run_script("verificar_setup_colab.sh", "--json", **shell, **server_environment)

    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["address"]["found"] == server.address
    assert checks["self-test"]["state"] == "ok"


def test_verificar_passes_the_status_on(shell: dict[str, str]) -> None:
    alone = run_script("verificar_setup_colab.sh", **shell)
    unreachable = run_script("verificar_setup_colab.sh", "http://127.0.0.1:1", **shell)

    assert alone.returncode == 0
    assert "not checked" in alone.stdout
    assert unreachable.returncode == 71
    assert "failed" in unreachable.stdout
