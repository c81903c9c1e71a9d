"""`omega21 train` as a process, against a server elsewhere and with one of its own."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import IO

import httpx
import numpy as np
import pytest

from tests.cli.conftest import Omega21

Start = Callable[..., subprocess.Popen[str]]

FIGURES = [
    *("run", "steps", "samples", "batch_size", "epochs", "kind", "seed"),
    *("loss_first", "loss_last", "validation_loss", "metrics", "validation_samples"),
    *("seconds", "samples_per_second", "weights_sha256", "non_finite_steps"),
    *("deterministic", "environment_changed_at", "evaluation_step", "task", "training_metrics"),
]
TINY = ("--samples", "48", "--batch-size", "16", "--validation", "40")
SMALL = (*TINY, "--no-report")  # a second saved each time


def read_until(stream: IO[str] | None, text: str) -> str:
    """Read lines up to the one that holds `text`, and return it."""
    assert stream is not None
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"{text!r} was never printed")


def stored_steps(run_folder: Path) -> list[int]:
    with closing(sqlite3.connect(run_folder / "results.sqlite")) as database:
        return [step for (step,) in database.execute("SELECT step FROM steps ORDER BY step")]


def test_json_is_a_line_for_each_event_and_the_figures_last(on_server: Omega21) -> None:
    done = on_server(
        *("train", "--json", "--run", "json", *SMALL, "--semilla", "5", "--evaluate-every", "1")
    )

    assert done.status == 0, done.stderr
    assert list(done.figures) == FIGURES
    events = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    names = [event["event"] for event in events]
    assert names[0] == "connected"
    assert names[-1] == "done"
    assert {"run_ready", "upload_progress", "steps_done", "server_seen", "evaluated"} <= {*names}
    rows = [row for event in events for row in event.get("rows", [])]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert events[-1]["evaluation"]["metrics"] == done.figures["metrics"]
    assert events[-1]["requests"] > len(rows)
    assert all(early["time"] <= late["time"] for early, late in pairwise(events))
    named = {"run": "json", "steps": 3, "samples": 48, "batch_size": 16, "epochs": 1, "seed": 5}
    assert done.figures.items() >= named.items()
    assert done.figures["kind"] == "simple"
    assert done.figures["validation_samples"] == 40
    assert 0 <= done.figures["metrics"]["auroc"] <= 1
    assert done.figures["samples_per_second"] > 0
    assert len(done.figures["weights_sha256"]) == 64


def test_people_get_the_report_on_stdout_and_the_way_there_on_stderr(on_server: Omega21) -> None:
    done = on_server("train", "--run", "people", *SMALL, "--diagnostico", "--metricas")

    assert done.status == 0, done.stderr
    names = [line.split("  ")[0] for line in done.stdout.splitlines()]
    report = ["run", "trained", "steps", "loss", "AUROC", "avg. precision", "positives"]
    assert [name for name in names if name in report] == report
    assert {"self-test", "trend"} <= set(names)
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "uploaded 48 of 48 samples" in done.stderr
    assert "step 3 of 3  loss " in done.stderr
    assert "device cpu" in done.stderr
    assert "at step 3, on 40 held-out samples" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_quiet_prints_nothing(on_server: Omega21) -> None:
    done = on_server("train", "--quiet", *SMALL)

    assert (done.status, done.stdout, done.stderr) == (0, "", "")


def test_verbose_logs_every_request_and_no_token(on_server: Omega21) -> None:
    done = on_server("train", "-v", "--json", *SMALL)

    assert "GET /info?run=default -> 200" in done.stderr
    assert "s3cret" not in done.stderr
    assert list(done.figures) == FIGURES


def test_without_a_run_each_training_gets_a_fresh_name_that_is_printed(on_server: Omega21) -> None:
    first, second = (on_server("train", "--json", *SMALL) for _ in range(2))

    assert first.figures["run"] != second.figures["run"]
    assert f"run {first.figures['run']}" in first.stderr.splitlines()
    assert first.figures["weights_sha256"] == second.figures["weights_sha256"]


def test_a_run_that_is_there_goes_on_with_the_next_samples(on_server: Omega21) -> None:
    on_server("train", "--run", "more", *SMALL, "--quiet")
    more = on_server("train", "--run", "more", *SMALL, "--kind", "temporal", "--json")
    state = on_server("runs", "show", "more", "--json")

    assert "run more, continued: 48 samples (temporal)" not in more.stderr  # the way is for people
    assert more.figures["steps"] == 3
    assert state.figures["step"] == 6
    assert state.figures["segments"] == 2


def test_an_explicit_option_overrides_its_preset(on_server: Omega21) -> None:
    done = on_server(
        *("train", "--preset", "prueba_rapida", "--lote", "20", "--validacion", "0", "--json")
    )

    assert done.figures["samples"] == 100
    assert done.figures["batch_size"] == 20
    assert done.figures["metrics"] == {}


def test_a_file_of_samples_is_trained_and_a_part_of_it_held_out(on_server: Omega21) -> None:
    made = on_server(
        "generate", "set.safetensors", "--samples", "50", "--anomalias", "20", "--json"
    )
    done = on_server("train", "--data", "set.safetensors", "--batch-size", "16", "--json")

    assert made.figures["samples"] == 50
    assert done.figures["kind"] == "file"
    assert done.figures["samples"] == 40
    assert done.figures["validation_samples"] == 10


def test_the_optimizer_and_the_micro_batch_are_options_and_the_report_repeats_them(
    on_server: Omega21, tmp_path: Path
) -> None:
    options = ("--optimizer", "sgd", "--lr", "0.01", "--momentum", "0.9", "--micro-batch", "5")
    where = ("--workdir", tmp_path)
    done = on_server("train", "--run", "mine", *options, *SMALL, *where)
    again = on_server("train", "--run", "mine", *SMALL, *where)
    report = on_server("report", "mine", "--format", "markdown", *where)

    assert done.status == 0, done.stderr
    stored = json.loads((tmp_path / "mine" / "run.json").read_text(encoding="utf-8"))
    optimizer = stored["config"]["optimizer"]
    assert (optimizer["name"], optimizer["learning_rate"], optimizer["momentum"]) == (
        *("sgd", 0.01, 0.9),
    )
    (segment,) = json.loads((tmp_path / "mine" / "plan.json").read_text())["segments"]
    assert segment["micro_batch"] == 5
    assert again.status == 32  # of the run that there is, by name
    assert "optimizer.name is sgd, asked for adamw" in again.stderr
    assert report.status == 0, report.stderr
    text = (tmp_path / "mine" / "report.md").read_text(encoding="utf-8")
    assert "--micro-batch 5" in text
    assert "--optimizer sgd --lr 0.01 --momentum 0.9" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lr", "0"), "learning-rate"),
        (("--optimizer", "other"), "'other'"),
        (("--data", "set.npz", "--targets", "x"), "the targets of this run are y"),
    ],
)
def test_an_option_of_training_that_cannot_be_is_named(
    omega21: Omega21, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    np.savez(tmp_path / "set.npz", x=np.zeros((4, 1600)), y=np.zeros(4))
    done = omega21("train", "http://127.0.0.1:1", *options)
    assert done.status == 2
    assert words in done.stderr


def test_a_reader_that_goes_away_ends_it_without_a_word_and_the_run_goes_on(
    started: Start, environment: dict[str, str], server_environment: dict[str, str]
) -> None:
    environment |= server_environment
    process = started(*("train", "--run", "unread", "--json", "--samples", "2000", "--quiet"))
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    notes = process.stderr.read()

    assert process.wait() == 1
    assert "error" not in notes
    assert "Traceback" not in notes


def test_every_trains_again_until_it_is_stopped(
    started: Start, environment: dict[str, str], server_environment: dict[str, str]
) -> None:
    environment |= server_environment
    process = started(*("train", "--run", "again", "--json", *SMALL, "--cada", "1s"))
    assert process.stdout is not None

    lines = (json.loads(line) for line in process.stdout)
    figures = list(islice((line for line in lines if "event" not in line), 2))
    process.send_signal(signal.SIGINT)
    _, notes = process.communicate()

    assert [row["run"] for row in figures] == ["again", "again"]
    assert figures[0]["weights_sha256"] != figures[1]["weights_sha256"]
    assert process.returncode == 130
    assert "--run again" in notes


# --- with a server of its own ---------------------------------------------------------------------


def test_two_trainings_side_by_side_have_a_server_each_and_their_weights_stay(
    started: Start, omega21: Omega21
) -> None:
    both = [started("train", "--run", name, *SMALL, "--json") for name in ("left", "right")]
    places = [read_until(process.stderr, "listens on").split()[-1] for process in both]
    figures = [json.loads(process.communicate()[0].splitlines()[-1]) for process in both]
    saved = omega21("export", "weights", "left", "--json")

    assert [process.returncode for process in both] == [0, 0]
    assert places[0] != places[1]
    assert figures[0]["weights_sha256"] == figures[1]["weights_sha256"]
    assert saved.figures["sha256"] == figures[0]["weights_sha256"]
    assert saved.figures["step"] == 3


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_and_run_again_it_finishes_and_trains_nothing_twice(
    started: Start, omega21: Omega21, tmp_path: Path
) -> None:
    order = ("--samples", "480", "--batch-size", "16", "--validation", "40", "--workdir", tmp_path)
    killed = started("train", "--run", "killed", *order)
    read_until(killed.stderr, "step ")
    killed.kill()
    killed.wait()

    again = omega21("train", "--run", "killed", *order, "--json")
    plain = omega21("train", "--run", "plain", *order, "--json")

    assert killed.returncode == -signal.SIGKILL
    assert again.status == 0, again.stderr
    assert "not finished" in again.stderr
    assert stored_steps(tmp_path / "killed") == list(range(1, 31))
    assert again.figures["steps"] == 30
    for name in ("loss_first", "loss_last", "metrics", "weights_sha256"):
        assert again.figures[name] == plain.figures[name]


def test_ctrl_c_stops_the_server_too_and_names_the_command_that_goes_on(started: Start) -> None:
    process = started("train", "--run", "stopped", "--samples", "5000", "--seed", "7")
    place = read_until(process.stderr, "listens on").split()[-1]
    read_until(process.stderr, "step ")
    process.send_signal(signal.SIGINT)
    report, notes = process.communicate()

    assert process.returncode == 130
    assert report == ""
    assert notes.splitlines()[-1] == (
        "run stopped is stopped; to continue it: omega21 resume stopped"
    )
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{place}/health")


def test_the_demo_keeps_its_report_and_ends_without_a_terminal(
    omega21: Omega21, tmp_path: Path
) -> None:
    done = omega21("demo", "--samples", "64")

    assert done.status == 0, done.stderr
    assert "held-out samples" in done.stdout
    assert "open it in a browser: http://127.0.0.1:" in done.stderr
    (kept,) = tmp_path.rglob("demo.html")
    assert f"report  {kept}" in done.stdout.splitlines()
    report = kept.read_text(encoding="utf-8")
    assert "<h1>demo</h1>" in report
    assert "omega21 train" in report
    assert "omega21 verify" not in report  # the run itself is gone
    assert "press Enter" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
@pytest.mark.parametrize("no_color", [False, True])
def test_on_a_terminal_there_is_a_live_view(
    environment: dict[str, str], server_environment: dict[str, str], tmp_path: Path, no_color: bool
) -> None:
    from tests.cli.conftest import COMMAND

    terminal, side = os.openpty()
    colors = {"NO_COLOR": "1"} if no_color else {}
    with subprocess.Popen(
        [*COMMAND, "train", *SMALL],
        stdin=side,
        stdout=subprocess.PIPE,
        stderr=side,
        encoding="utf-8",
        env={**environment, **server_environment, **colors, "TERM": "xterm-256color"},
        cwd=tmp_path,
    ) as process:
        os.close(side)
        shown = _read_all(terminal)
        assert process.stdout is not None
        report = process.stdout.read()

    assert process.returncode == 0, shown
    assert "\x1b[2K" in shown  # lines are drawn again
    assert "48/48" in shown
    assert "3/3" in shown
    assert ("\x1b[32m" in shown) is not no_color
    assert "│" in shown  # the loss as a curve
    assert "40 held-out samples" in shown
    assert "requests" in shown
    assert "\x1b" not in report


def _read_all(terminal: int) -> str:
    chunks: list[bytes] = []
    try:
        while chunk := os.read(terminal, 65_536):
            chunks.append(chunk)
    except OSError:  # the other side was closed: Linux says so in this way
        pass
    finally:
        os.close(terminal)
    return b"".join(chunks).decode()
