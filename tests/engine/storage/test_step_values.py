"""Metrics and vectors of steps: stored small, read as they were, and summed up as means."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.engine.storage.ledger import Ledger
from omega21.engine.storage.step_values import (
    Layout,
    metrics_to_store,
    pack_metrics,
    pack_vectors,
    parse_layout,
    vectors_to_store,
)
from omega21.engine.storage.steps import StepTable, StoredStep
from tests.engine.engines import CONFIG

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,10}", fullmatch=True)
VECTORS = {"gates": np.array([0.5, -1.0], np.float32)}


def record(
    step: int,
    metrics: dict[str, float],
    *,
    samples: int = 1,
    vectors: dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]] | None = None,
    counted: bool = True,
) -> StoredStep:
    return StoredStep(
        step=step,
        samples=samples,
        loss=0.5 if counted else None,
        metrics=metrics_to_store(metrics, counted=counted),
        digest="0" * 64,
        ended_at=float(step),
        seconds=0.1,
        non_finite=not counted,
        skipped=False,
        micro_batch_size=None,
        vectors=vectors_to_store(VECTORS if vectors is None else vectors, counted=counted),
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


@pytest.fixture
def key(ledger: Ledger) -> int:
    return ledger.runs.add("a-run", "a" * 32, CONFIG).key


@given(
    metrics=st.dictionaries(NAMES, st.floats(), max_size=32),
    sizes=st.dictionaries(NAMES, st.integers(0, 5), max_size=4),
)
def test_values_are_read_as_they_were_stored(
    metrics: dict[str, float], sizes: dict[str, int]
) -> None:
    stored = metrics_to_store(metrics, counted=True)
    vectors = {name: np.arange(size, dtype=np.float32) for name, size in sizes.items()}
    layout = parse_layout(Layout.of(stored, vectors).text())
    assert layout == Layout.of(stored, vectors)
    assert layout.unpack_metrics(pack_metrics(stored)) == stored
    assert list(layout.unpack_metrics(pack_metrics(stored))) == list(metrics)
    for name, value in layout.unpack_vectors(pack_vectors(vectors)).items():
        np.testing.assert_array_equal(value, vectors[name])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_what_is_not_finite_is_missing(value: float) -> None:
    assert metrics_to_store({"f1": value, "accuracy": 0.1}, counted=True) == {
        "f1": None,
        "accuracy": 0.1,
    }
    vectors = {"gates": np.array([value, 2.0])}
    assert vectors_to_store(vectors, counted=True)["gates"].tolist() == [0.0, 2.0]


def test_a_step_that_did_not_count_has_no_values() -> None:
    one = record(1, {"accuracy": 0.5}, counted=False)
    assert (one.metrics, one.vectors["gates"].tolist()) == ({"accuracy": None}, [0.0, 0.0])


def test_the_names_are_stored_once_for_all_steps_and_runs(ledger: Ledger, key: int) -> None:
    other = ledger.runs.add("other", "b" * 32, CONFIG).key
    for run in (key, other):
        ledger.steps.add(run, [record(step, {"accuracy": 0.5}) for step in (1, 2, 3)])
    assert ledger.steps.db.row("SELECT count(*) FROM step_layouts")[0] == 1
    assert ledger.steps.page(other, after=0, until=9, limit=9)[2].metrics == {"accuracy": 0.5}


def test_means_are_weighted_by_samples_and_leave_out_what_is_missing(
    ledger: Ledger, key: int
) -> None:
    ledger.steps.add(
        key,
        [
            record(1, {"a": 1.0, "b": math.nan}, samples=3),
            record(2, {"a": 0.0, "b": math.nan}, samples=1),
            record(3, {"a": 5.0, "b": 2.0}, counted=False),
            record(4, {"b": 4.0, "c": 7.0}, samples=2),
            record(5, {"a": 2.0}, samples=2),
        ],
    )
    means = ledger.steps.metrics(key, after=0, until=5, width=2)
    assert means == {"a": [0.75, None, 2.0], "b": [None, 4.0, None], "c": [None, 7.0, None]}
    assert ledger.steps.metrics(key, after=2, until=4, width=2) == {
        "a": [None], "b": [4.0], "c": [7.0]
    }  # fmt: skip
    totals = ledger.steps.totals(key)
    assert (totals.steps, totals.samples) == (4, 8)
    assert totals.metrics == {"a": pytest.approx(7 / 6), "b": 4.0, "c": 7.0}
    assert ledger.steps.newest(key) == (0.5, {"a": 2.0})


def test_totals_follow_what_is_added_and_what_a_replay_replaces(ledger: Ledger, key: int) -> None:
    def stored(*rows: tuple[int, float]) -> None:
        for step, value in rows:
            one = record(step, {"a": value}, samples=2)
            ledger.steps.add(key, [replace(one, digest=f"{step} {value}")])

    def totals() -> tuple[int, object]:
        found = ledger.steps.totals(key)
        return found.samples, found.metrics["a"]

    stored((1, 1.0), (2, 3.0))
    assert totals() == totals() == (4, 2.0)
    stored((3, 8.0))
    assert totals() == (6, 4.0)
    stored((3, 2.0))  # computed again, with another result
    assert totals() == (6, 2.0)
    stored((4, 6.0))
    assert totals() == (8, 3.0)


def test_the_mean_loss_has_the_same_bits_however_often_it_was_asked_for(
    ledger: Ledger, key: int
) -> None:
    """A server that was killed sums up again from its first record on."""
    rng = np.random.default_rng(0)
    losses = (rng.random(60) * 10.0 ** -rng.integers(0, 12, 60)).astype(np.float32)
    for step, loss in enumerate(losses.tolist(), 1):
        ledger.steps.add(key, [replace(record(step, {}), loss=loss)])
        if step % 7 == 0:
            ledger.steps.totals(key)
    taken_up = ledger.steps.totals(key).mean_loss
    assert StepTable(ledger.steps.db).totals(key).mean_loss == taken_up
    assert taken_up == pytest.approx(float(losses.mean(dtype=np.float64)))


def test_a_run_without_steps_has_no_metrics(ledger: Ledger, key: int) -> None:
    assert ledger.steps.metrics(key, after=0, until=9, width=2) == {}
    assert ledger.steps.totals(key).metrics == {}
    assert ledger.steps.vectors(key, []) == {}
    assert ledger.steps.newest(key) == (None, {})


def test_vectors_of_steps_with_other_names_or_sizes_are_zero_there(
    ledger: Ledger, key: int
) -> None:
    one, two = np.ones(1, np.float32), np.ones(2, np.float32)
    ledger.steps.add(
        key,
        [
            record(1, {}, vectors={"grows": one}),
            record(2, {}, vectors={"grows": two, "late": one}),
            record(3, {}, vectors={"grows": two}),
        ],
    )
    found = ledger.steps.vectors(key, [1, 2, 3])
    assert {name: values.tolist() for name, values in found.items()} == {
        "grows": [[0, 0], [1, 1], [1, 1]],
        "late": [[0], [1], [0]],
    }
