"""The report of a run of a user's own model: whatever metrics and vectors it gives."""

import re
from pathlib import Path

import numpy as np
import pytest

from omega21.cli.report.file import write_report
from omega21.cli.ui.result import outcome
from omega21.client.run_reader import open_stored_run
from omega21.client.store.run_folder import RunFolder, RunRecord
from omega21.client.store.summary import Scored
from omega21.protocol.digests import CHAIN_START, chain_result
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.plan import Segment, ShardRef, Source
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.steps import StepRecord
from omega21.protocol.tasks.task import CodeTask

STEPS = 20
CONFIG = RunConfig(
    task=CodeTask(entry="net:build", code_sha256="0" * 64, config={"hidden": 256}),
    sample_schema=Schema(inputs={"x": TensorSpec(dtype="float32", shape=(8,))}),
)


def metrics_at(step: int) -> dict[str, float | None]:
    """A metric that falls, one with gaps, one that is never known, one that comes late."""
    late = {"late": 2.0} if step > STEPS // 2 else {}
    return {"rmse": 30.0 / step, "R.2": None if step % 2 else 0.5, "never": None, **late}


def rows() -> list[StepRecord]:
    made: list[StepRecord] = []
    digest = CHAIN_START
    for step in range(1, STEPS + 1):
        digest = chain_result(digest, step, 1 / step)
        made.append(
            StepRecord(
                step=step,
                loss=1 / step,
                samples=4,
                digest=digest,
                ended_at=float(step),
                seconds=0.1,
                metrics=metrics_at(step),
            )
        )
    return made


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    record = RunRecord(run="own", id="a" * 32, config=CONFIG, created_at=1.0, validation=10)
    shards = (ShardRef(sha256="b" * 64, samples=4),)
    with RunFolder.create(tmp_path / "own", record) as folder:
        folder.put_segment(
            0,
            Segment(
                samples=4, batch_size=4, epochs=STEPS, source=Source(kind="file"), shards=shards
            ),
        )
        folder.results.put(rows())
        for step in (10, STEPS):
            evaluation = Evaluation(
                step=step,
                samples=10,
                loss=0.25,
                metrics={"rmse": 20.0 / step, "R.2": 0.75, "held": 0.125},
            )
            folder.results.put_evaluation(Scored(evaluation), segment=0, ended_at=9.0)
        steps = [5, 10, 15, 20]
        values = np.linspace(-3, 3, 4 * 40, dtype=np.float32).reshape(4, 40)
        folder.results.put_vectors(steps, {"gates": values, "zero": np.zeros((4, 1), np.float32)})
    return tmp_path


def test_every_metric_has_a_curve_and_every_vector_a_map(workdir: Path) -> None:
    html = write_report("own", workdir=workdir).read_text(encoding="utf-8")
    captions = re.findall(r'<svg role="img" aria-label="([^"]+)"', html)
    assert captions == [
        "Loss by step",
        *(f"{name} by step" for name in ("rmse", "R.2", "never", "late", "held")),
        "Samples per second",
        *(
            f"{name}, a row for each value; stronger is larger, two colours for the sign"
            for name in ("gates", "zero")
        ),
    ]
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert "hidden 256" in html or "{&#x27;hidden&#x27;: 256}" in html
    for word in ("AUROC", "ROC curve", "positives"):
        assert word not in html


def test_the_figures_of_the_newest_evaluation_are_listed(workdir: Path) -> None:
    text = write_report("own", workdir=workdir, kind="markdown").read_text(encoding="utf-8")
    plain = text.replace("\\", "").replace("*", "").replace("|", " ")
    for name, value in (("rmse", "1.0000"), ("R.2", "0.7500"), ("held", "0.1250")):
        assert re.search(rf"{re.escape(name)}\s+{value}", plain), plain
    images = {path.name for path in (workdir / "own").glob("report-*.png")}
    assert {"report-metric-rmse.png", "report-metric-R.2.png", "report-vector-gates.png"} <= images


def test_the_summary_is_known_by_the_first_metric(workdir: Path) -> None:
    with open_stored_run("own", workdir) as stored:
        summary = stored.summary()
        assert summary is not None
        assert (summary.task, summary.validation_loss) == ("code", 0.25)
        assert summary.metrics == {"rmse": 1.0, "R.2": 0.75, "held": 0.125}
        assert summary.training_metrics == metrics_at(STEPS)
        text = outcome(summary, stored.evaluation(), step=STEPS).plain
    found = [line.split(maxsplit=1) for line in text.splitlines()]
    assert ["rmse", "1.0000 on 10 held-out samples"] in found
    assert ["R.2", "0.7500"] in found
    assert ["held", "0.1250"] in found
