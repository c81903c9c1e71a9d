"""The example as a person runs it: a process of its own, against a real server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RunningServer, start_server

EXAMPLE = Path(__file__).parents[2] / "examples" / "ejemplo_integracion_completa.py"
TOKEN = "a-token-of-the-examples"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("example") / "data"
    with start_server(folder, "--threads", "1", token=TOKEN) as running:
        yield running


def run_example(
    *arguments: str, token: str = TOKEN, folder: Path
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMEGA21_TOKEN": token, "PYTHONUTF8": "1"}
    command = [sys.executable, "-W", "error", str(EXAMPLE), *arguments]
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )


def test_the_thirteen_steps_are_taken_and_reported(server: RunningServer, tmp_path: Path) -> None:
    done = run_example(server.address, "--muestras", "48", "--lote", "16", folder=tmp_path)

    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert [int(line[1:3]) for line in steps] == list(range(1, 14))

    report = json.loads((tmp_path / "informe" / "informe.json").read_text(encoding="utf-8"))
    assert [batch["batch_size"] for batch in report["lotes"]] == [16, 16, 16]
    assert report["estado"]["estadisticas"]["total_muestras"] == 48
    assert report["resumen"]["perdida_final"] == report["lotes"][-1]["loss"]
    assert report["feedback"]["validacion"] is report["analisis"]["mejora"]
    assert report["feedback"]["estadisticas"]["recibido"] == 1
    assert report["datos"]["porcentaje_anomalias"] == pytest.approx(10, abs=2.1)

    text = (tmp_path / "informe" / "informe.md").read_text(encoding="utf-8")
    assert text.startswith("# Informe de la ejecución default\n")
    assert all(f"| {batch['loss']:.4f} |" in text for batch in report["lotes"])


def test_a_refused_token_is_said_in_one_line(server: RunningServer, tmp_path: Path) -> None:
    done = run_example(server.address, token="another", folder=tmp_path)

    assert done.returncode == 1
    assert "este no es el token del servidor" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "informe").exists()
