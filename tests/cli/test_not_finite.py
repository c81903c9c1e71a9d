"""Data that makes NaN: every command comes to its end and names the user's own rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from omega21.data.order import presentation_order
from tests.cli.conftest import Omega21

ROWS = 40
X = np.random.default_rng(5).normal(size=(ROWS, 1600)).astype(np.float32)
Y = (np.arange(ROWS) % 8 == 0).astype(np.float32)


def write(path: Path, *, bad: list[int]) -> Path:
    """A data file in which some rows are in other units, as when one sensor was."""
    x = X.copy()
    x[bad] *= np.float32(1e30)
    np.savez(path, x=x, y=Y)
    return path


def test_steps_that_trained_nothing_are_counted_and_their_rows_named(
    on_server: Omega21, tmp_path: Path
) -> None:
    bad = [7, 20, 33]
    data = write(tmp_path / "units.npz", bad=bad)
    done = on_server(
        *("train", "--json", "--run", "units", "--data", data, "--no-report"),
        *("--batch-size", "4", "--validation", "0"),
    )

    assert done.status == 41
    summary, events = done.figures, [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    assert 1 <= summary["non_finite_steps"] <= len(bad)
    notices = [event["text"] for event in events if event["event"] == "notice"]
    assert any("rows 7, 20, 33 of units.npz, with values up to" in text for text in notices)
    assert "steps of run units changed nothing" in done.stderr


def test_a_run_that_diverges_names_rows_of_the_file_as_it_is(
    on_server: Omega21, tmp_path: Path
) -> None:
    data = write(tmp_path / "half.npz", bad=list(range(10, 40)))
    done = on_server(
        *("train", "--run", "half", "--data", data, "--no-report", "--batch-size", "2"),
        *("--epochs", "2", "--validation", "0"),
    )

    assert done.status == 38
    error = done.stderr.splitlines()[-1]
    named = error.partition("not finite: rows ")[2].partition(" of half.npz")[0]
    rows = [int(word) for word in named.partition(" and ")[0].split(", ")]
    assert rows
    assert set(rows) <= set(range(10, 40))


@pytest.mark.parametrize("again", [False, True])
def test_a_held_out_row_without_a_finite_score_ends_no_run(
    on_server: Omega21, tmp_path: Path, *, again: bool
) -> None:
    held_out = presentation_order(42, offset=0, samples=ROWS)[-8:]
    bad = int(held_out[3])
    data = write(tmp_path / "held.npz", bad=[bad])
    run = f"held-{int(again)}"
    done = on_server(
        *("train", "--json", "--run", run, "--data", data, "--no-report"),
        *("--batch-size", "8", "--validation", "8"),
    )

    assert done.status == 0, done.stderr
    ended = json.loads(done.stdout.splitlines()[-2])
    assert ended["evaluation"]["not_finite"] == 1
    assert ended["evaluation"]["loss"] is None
    assert f"row {bad} of held.npz" in done.stdout
    if again:
        more = on_server("train", "--run", run, "--data", data, "--validation", "8", "--no-report")
        assert more.status == 2  # all of the file is used: a plain answer, no crash
        report = on_server("report", run)
        assert report.status == 0, report.stderr


def test_predictions_that_are_not_finite_are_null_in_json(
    on_server: Omega21, tmp_path: Path
) -> None:
    data = write(tmp_path / "some.npz", bad=[2])
    trained = on_server(
        *("train", "--run", "some", "--samples", "16", "--batch-size", "8"),
        *("--validation", "0", "--no-report", "-q"),
    )
    assert trained.status == 0, trained.stderr
    done = on_server("predict", "some", data, "--json")

    assert done.status == 0, done.stderr
    found = done.figures["outputs"]["anomaly_prob"]
    assert [place for place, value in enumerate(found) if value is None] == [2]
    assert "1 sample has no finite score" in done.stderr
    for ending in ("npz", "csv"):
        refused = on_server("predict", "some", data, "-o", tmp_path / f"p.{ending}")
        assert refused.status == 2
        assert ".safetensors" in refused.stderr
        assert "connected" not in refused.stderr


@pytest.mark.parametrize(("factor", "offset"), [(200.0, 1024.0), (1e-4, 0.0), (1.0, 300.0)])
def test_features_that_are_not_scaled_are_said_before_training(
    on_server: Omega21, tmp_path: Path, factor: float, offset: float
) -> None:
    np.savez(tmp_path / "ecg.npz", x=X * np.float32(factor) + np.float32(offset), y=Y)
    done = on_server(
        *("train", "--json", "--run", f"raw-{int(factor)}-{int(offset)}", "--data"),
        *(tmp_path / "ecg.npz", "--no-report", "--batch-size", "8", "--validation", "8"),
    )

    events = [json.loads(line) for line in done.stdout.splitlines() if '"event"' in line]
    kinds = [event["event"] for event in events]
    told = next(n for n, event in enumerate(events) if "are not scaled" in event.get("text", ""))
    assert told < kinds.index("steps_done")


def test_scaled_features_are_not_spoken_of(on_server: Omega21, tmp_path: Path) -> None:
    np.savez(tmp_path / "fine.npz", x=X, y=Y)
    done = on_server(
        *("train", "--run", "fine", "--data", tmp_path / "fine.npz", "--no-report"),
        *("--batch-size", "8", "--validation", "8"),
    )

    assert done.status == 0, done.stderr
    assert "scaled" not in done.stdout + done.stderr
