"""`omega21 watch` beside a training, after it, and with the run folder alone."""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omega21.client.run_reader import open_stored_run
from tests.cli.commands.test_train import read_until
from tests.cli.conftest import TOKEN, Omega21
from tests.servers import RunningServer, start_server

Start = Callable[..., subprocess.Popen[str]]

ORDER = ("--samples", "320", "--batch-size", "16", "--validation", "40", "--epochs", "2")


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on which nothing has begun yet, for the one test that begins and ends on it."""
    with start_server(tmp_path_factory.mktemp("watched") / "data", "--threads", "1") as running:
        yield running


def events_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_watcher_that_was_there_first_sees_the_whole_run_and_its_figures(
    started: Start, omega21: Omega21, own_server: RunningServer
) -> None:
    watcher = started("watch", own_server.address, "--json")
    read_until(watcher.stderr, "waiting for one")
    trained = omega21("train", own_server.address, "--run", "seen", *ORDER, "--json")
    out, _ = watcher.communicate()
    *events, figures = events_of(out)

    assert trained.status == 0, trained.stderr
    assert watcher.returncode == 0
    assert events[0]["event"] == "connected"
    assert events[1].items() >= {"event": "run_ready", "how": "watched", "run": "seen"}.items()
    rows = [row["step"] for event in events for row in event.get("rows", ())]  # type: ignore[attr-defined]
    assert sorted(set(rows)) == list(range(1, 41))
    assert "evaluated" in {event["event"] for event in events}
    assert "server_seen" in {event["event"] for event in events}
    same = ("loss_first", "loss_last", "metrics", "weights_sha256", "validation_samples")
    assert {name: figures[name] for name in same} == {name: trained.figures[name] for name in same}

    again = omega21("watch", own_server.address)  # afterwards, and without a name: there is one
    elsewhere = omega21("watch", own_server.address, "--run", "seen", "--workdir", "nowhere")
    assert "run     seen, at step 40" in again.stdout.replace("run         ", "run ")
    assert "on 40 held-out samples" in again.stdout
    assert elsewhere.status == 0, elsewhere.stderr
    assert "seen, at step 40" in elsewhere.stdout
    assert "on 40 held-out samples" in elsewhere.stdout  # as it was recorded on the server


def test_ctrl_c_ends_the_watching_and_not_the_run(
    started: Start, omega21: Omega21, own_server: RunningServer
) -> None:
    own = ("--run", "long", "--samples", "20000", "--batch-size", "16", "--validation", "0")
    trainer = started("train", own_server.address, *own, "--pull-checkpoints", "never")
    read_until(trainer.stderr, "step ")
    watcher = started("watch", own_server.address, "--run", "long")
    read_until(watcher.stderr, "step ")
    watcher.send_signal(signal.SIGINT)
    _, notes = watcher.communicate()
    state = omega21("runs", "show", "long", "--url", own_server.address, "--json").figures

    assert watcher.returncode == 130
    assert notes.splitlines()[-1] == (
        f"run long continues; watch it again with: omega21 watch {own_server.address} --run long"
    )
    assert state["state"] == "training"
    trainer.send_signal(signal.SIGINT)
    _, notes = trainer.communicate()
    assert "keeps training in the background; to return to it: omega21 resume long" in notes
    assert omega21("runs", "remove", "long", "--yes", "--url", own_server.address).status == 0


def test_a_run_with_its_own_server_is_watched_from_another_terminal(
    started: Start, omega21: Omega21, tmp_path: Path
) -> None:
    trainer = started(
        *("train", "--run", "own", "--samples", "20000", "--validation", "500"),
        *("--workdir", tmp_path),
    )
    read_until(trainer.stderr, "step ")
    watcher = started("watch", "--workdir", tmp_path)
    read_until(watcher.stderr, "step ")
    for process in (watcher, trainer):
        process.send_signal(signal.SIGINT)
        process.communicate()
    after = omega21("watch", "--run", "own", "--workdir", tmp_path)

    assert after.status == 71
    assert "this is read from the run folder" in after.stderr
    assert re.search(r"own, at step [\d,]+ of 313\n", after.stdout), after.stdout
    assert "500 samples, not scored yet" in after.stdout
    with open_stored_run("own", tmp_path) as stored:
        rows = list(stored.results.rows(first=1, last=stored.results.last_step))
    trained = sum(row.samples for row in rows)
    seconds = rows[-1].ended_at - (rows[0].ended_at - rows[0].seconds)
    figures = omega21("watch", "--run", "own", "--workdir", tmp_path, "--json").figures
    assert figures["steps"] == len(rows)
    assert figures["samples"] == trained
    assert figures["validation_samples"] == 500
    assert figures["samples_per_second"] == pytest.approx(trained / seconds)
    assert f"continue with: omega21 resume own --workdir {tmp_path}" in after.stderr


def test_a_finished_run_whose_server_is_gone_is_shown_from_its_folder(
    omega21: Omega21, tmp_path: Path
) -> None:
    trained = omega21("train", "--run", "kept", *ORDER, "--workdir", tmp_path, "--json")
    plain = omega21("watch", "--workdir", tmp_path)
    machine = omega21("watch", "--run", "kept", "--workdir", tmp_path, "--json")

    assert plain.status == 0, plain.stderr
    assert "this is read from the run folder" in plain.stderr
    assert "AUROC 1.0000 at step 40, on 40 held-out samples" in plain.stderr
    assert "kept, at step 40" in plain.stdout
    assert machine.figures == trained.figures
    assert "\x1b" not in plain.stdout + plain.stderr


def test_what_cannot_be_watched_says_so(
    omega21: Omega21, server: RunningServer, server_environment: dict[str, str], tmp_path: Path
) -> None:
    missing = omega21("watch", "--run", "nobody", **server_environment)
    nothing = omega21("watch", "--workdir", tmp_path / "empty")
    gone = omega21("watch", "http://127.0.0.1:1", "--run", "nobody")
    refused = omega21("watch", server.address, "--run", "default", OMEGA21_TOKEN="wrong")
    wrong = omega21("watch", server.address, "--run", "../x", OMEGA21_TOKEN=TOKEN)

    assert (missing.status, missing.stdout) == (21, "")
    assert "nobody" in missing.stderr
    assert nothing.status == 21
    assert "there is no run on this machine" in nothing.stderr
    assert gone.status in {21, 71}
    assert "not reachable" in gone.stderr
    assert refused.status == 18
    assert wrong.status == 2
