"""The commands around `train`, as processes against a real server."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from omega21.cli.app import run
from tests.cli.conftest import COMMAND, TOKEN, Omega21
from tests.servers import LISTENING, RunningServer


@pytest.fixture(scope="module")
def workdir(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders with the run `small`: two steps, on the shared server too."""
    place = tmp_path_factory.mktemp("runs")
    where = [server.address, "--token", TOKEN, "--workdir", str(place)]
    size = ["--samples", "32", "--batch-size", "16", "--validation", "0"]
    assert run(["train", *where, *size, "--run", "small", "--quiet"]) == 0
    return place


def test_status_metrics_and_self_test_are_the_servers_replies(on_server: Omega21) -> None:
    status = on_server("status", "--run", "default", "--json").figures
    metrics = on_server("metrics", "--run", "default", "--json").figures
    diagnosis = on_server("diagnose", "--json").figures

    assert status["status"] == "online"
    assert status["run"] == "default"
    assert metrics["tendencia"] == "sin_cambios"
    assert diagnosis["outputs_shapes"]["dendrites"][-1] == 16


def test_feedback_is_recorded(on_server: Omega21) -> None:
    numbers = ",".join(["-0.5", "1", *["0"] * 14])
    done = on_server("feedback", "--ajustes", numbers, "--rechazado", "--json")

    assert done.figures["status"] == "feedback_recibido"
    assert done.figures["validacion"] is False
    assert done.figures["estadisticas"]["recibido"] >= 1


def test_what_is_generated_is_described_on_request(omega21: Omega21, tmp_path: Path) -> None:
    done = omega21("generate", "made.npz", "--samples", "40", "--tipo", "temporal", "--statistics")

    assert done.status == 0, done.stderr
    assert "anomalies  4 (10%)" in done.stdout.splitlines()
    with np.load(tmp_path / "made.npz", allow_pickle=False) as made:
        assert made["x"].shape == (40, 1600)
        assert made["y"].sum() == 4


def test_files_can_continue_one_another(omega21: Omega21, tmp_path: Path) -> None:
    for name, first, samples in (("whole", "0", "20"), ("tail", "15", "5")):
        omega21("generate", f"{name}.npz", "--samples", samples, "--primera", first)
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "tail.npz") as tail:
        assert np.array_equal(whole["x"][15:], tail["x"])


@pytest.mark.usefixtures("workdir")
def test_predictions_need_no_labels_and_are_one_a_line(on_server: Omega21, tmp_path: Path) -> None:
    save_file({"x": np.zeros((3, 1600), np.float32)}, tmp_path / "unlabelled.safetensors")
    lines = on_server("predict", "small", "unlabelled.safetensors", "-o", "all.safetensors")
    figures = on_server("predict", "small", "unlabelled.safetensors", "--json").figures

    outputs = load_file(tmp_path / "all.safetensors")
    assert [float(line) for line in lines.stdout.splitlines()] == pytest.approx(
        outputs["anomaly_prob"], abs=1e-6
    )
    assert outputs["dendrites"].shape == (3, 16)
    assert outputs["coherence"].shape == (3, 64)
    assert figures["step"] == 2
    assert figures["outputs"]["anomaly_prob"] == outputs["anomaly_prob"].tolist()


@pytest.mark.usefixtures("workdir")
def test_exported_weights_have_the_digest_of_the_run(on_server: Omega21) -> None:
    saved = on_server("export", "weights", "small", "-o", "w.safetensors", "--json").figures
    state = on_server("runs", "show", "small", "--json").figures

    assert saved["sha256"] == state["weights_sha256"]


def test_runs_are_listed_here_and_there(
    on_server: Omega21, omega21: Omega21, workdir: Path
) -> None:
    there = on_server("runs", "--json").figures["runs"]
    listed = on_server("runs", "list").stdout.splitlines()
    here = omega21("runs", "--workdir", workdir, "--json").figures["runs"]
    shown = omega21("runs", "show", "small", "--workdir", workdir, "--json").figures

    assert "small" in {kept["run"] for kept in there}
    assert listed[0].split() == ["run", "state", "step", "target", "durable"]
    assert [kept["run"] for kept in here] == ["small"]
    assert shown["finished_segments"] == 1


def test_a_run_is_paused_unpaused_and_removed(on_server: Omega21, omega21: Omega21) -> None:
    on_server("train", "--run", "short", "--samples", "16", "--validation", "0", "--quiet")
    assert on_server("runs", "pause", "short", "--json").figures["paused"] is True
    assert on_server("runs", "unpause", "short", "--json").figures["paused"] is False
    kept = on_server("runs", "remove", "short", stdin="n\n")
    removed = [place("runs", "remove", "short", "--yes") for place in (on_server, omega21)]

    assert (kept.status, kept.stdout) == (1, "")
    assert [done.status for done in removed] == [0, 0]
    assert on_server("runs", "show", "short").status == 21
    assert omega21("runs", "--json").figures == {"runs": [], "damaged": []}


def test_serve_prints_one_line_and_ends_with_its_standard_input(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--data-dir", "d", "--stop-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env=environment,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        line = process.stdout.readline()
        process.stdin.close()
        rest = process.stdout.read()

    assert line.startswith(LISTENING)
    assert rest == ""
    assert process.returncode == 0
