"""`omega21 resume`, `verify` and `checkpoint pull` as a user runs them."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.commands.test_train import SMALL, read_until, stored_steps
from tests.cli.conftest import Omega21
from tests.servers import start_server

Start = Callable[..., subprocess.Popen[str]]
SOON = ("--batch-size", "64", "--validation", "0", "--no-tensorboard")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_resumed_and_verified_with_servers_started_here(
    started: Start, omega21: Omega21, tmp_path: Path
) -> None:
    order = ("--samples", "480", "--batch-size", "16", "--validation", "40")
    killed = started("train", "--run", "killed", *order, "--workdir", tmp_path)
    read_until(killed.stderr, "step ")
    killed.kill()
    killed.wait()

    nowhere = ("http://127.0.0.1:9", "--patience", "1s", "--workdir", tmp_path)
    beside = omega21("train", *nowhere)
    by_address = omega21("resume", *nowhere)
    resumed = omega21("resume", "--workdir", tmp_path, "--json")
    again = omega21("resume", "killed", "--workdir", tmp_path)
    none = omega21("resume", "--workdir", tmp_path)
    verified = omega21("verify", "killed", "--workdir", tmp_path)
    with closing(sqlite3.connect(tmp_path / "killed" / "results.sqlite")) as database, database:
        database.execute("UPDATE steps SET digest = replace(digest, '0', '1') WHERE step = 7")
    differs = omega21("verify", "killed", "--workdir", tmp_path)

    assert killed.returncode == -signal.SIGKILL
    resume_command = f"omega21 resume killed --workdir {tmp_path} --url http://127.0.0.1:9"
    assert resume_command in beside.stderr
    assert (beside.status, by_address.status) == (71, 76)
    assert "resuming run killed" in by_address.stderr
    assert resumed.status == 0, resumed.stderr
    assert "resuming run killed" in resumed.stderr
    assert (resumed.figures["steps"], resumed.figures["validation_samples"]) == (30, 40)
    assert stored_steps(tmp_path / "killed") == list(range(1, 31))
    assert (again.status, none.status) == (39, 21)
    assert "train more with: omega21 train --run killed" in again.stderr
    assert verified.status == 0, verified.stderr
    assert "reproduced bit for bit, steps 1 to 30, and the weights after them" in verified.stdout
    assert differs.status == 40
    assert "step 7 is the first that differs" in differs.stderr
    assert not (tmp_path / "killed" / "verify").exists()


def test_the_folder_says_where_the_server_is_and_a_checkpoint_is_pulled_from_it(
    on_server: Omega21, omega21: Omega21, tmp_path: Path
) -> None:
    token = {"OMEGA21_TOKEN": "s3cret-token"}
    first = on_server("train", "--run", "held", *SMALL, "--pull-checkpoints", "end", "--fast")
    with closing(sqlite3.connect(next(tmp_path.rglob("results.sqlite")))) as database:
        environments = database.execute(
            "SELECT from_step, deterministic FROM environments"
        ).fetchall()
    checked = omega21("checkpoint", "pull", "held", "--json", **token)
    weights = omega21("checkpoint", "pull", "--weights", "-o", "w.safetensors", "--json", **token)
    refused = omega21("checkpoint", "pull", "held", OMEGA21_TOKEN="wrong")

    assert first.status == 0, first.stderr
    assert "downloaded the checkpoint of step 3" in first.stderr
    assert "nondeterministic kernels were allowed for speed" in first.stdout
    assert environments == [(1, 0)]
    assert checked.status == 0, checked.stderr
    assert checked.figures["step"] == 3
    assert Path(checked.figures["file"]).name == "000000000003.safetensors"
    assert weights.status == 0, weights.stderr
    assert (tmp_path / "w.safetensors").stat().st_size > 1_000_000
    assert refused.status == 13  # not the one that is remembered for this address: it stays here


def test_when_checkpoints_are_pulled_is_checked_before_anything_is_made(omega21: Omega21) -> None:
    for wrong in ("sometimes", "0", "-3", "nan"):
        done = omega21("train", "--pull-checkpoints", wrong)
        assert done.status == 2
        assert "never, end, auto or a number of minutes" in done.stderr


def test_a_paused_run_is_shown_and_goes_on_when_it_is_resumed(
    started: Start, omega21: Omega21, tmp_path: Path
) -> None:
    with start_server(tmp_path / "served", "--device", "cpu", "--threads", "1") as server:
        unused = omega21("runs", "list", "--url", server.address, "--json")
        trainer = started("train", server.address, "--run", "long", "--samples", "6400", *SOON)
        read_until(trainer.stderr, "step ")
        paused = omega21("runs", "pause", "long", "--url", server.address)
        trainer.send_signal(signal.SIGINT)
        trainer.communicate()
        shown = omega21("status", server.address)
        metrics = omega21("metrics", server.address)
        resumed = omega21("resume", server.address, "--json")

    assert "default" not in unused.stdout
    assert paused.status == 0, paused.stderr
    assert "long" in shown.stdout
    assert metrics.status == 0, metrics.stderr
    assert resumed.status == 0, resumed.stderr
    assert "run long was paused; it continues now" in resumed.stdout
    assert resumed.figures["steps"] == 100


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C")
def test_ctrl_c_after_the_training_says_that_the_run_is_finished(
    omega21: Omega21, tmp_path: Path
) -> None:
    """Ctrl-C comes where the report begins to be written: the one place that is not real here."""
    code = (
        "import signal, omega21.cli.training as training, os\n"
        "training.write_report = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)\n"
        "from omega21.cli.app import main; main()"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "train", "--run", "whole", *SOON),
            *("--samples", "64", "--workdir", str(tmp_path)),
        ],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")},
    )

    assert done.returncode == 130, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "run whole is finished" in last
    assert f"omega21 report whole --workdir {tmp_path}" in last
    assert omega21("report", "whole", "--workdir", tmp_path).status == 0
