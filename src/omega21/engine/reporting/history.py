"""A run's history, by queries of the ledger only.

No query waits for a step or delays one. A series of a run of 100,000 steps is aggregated by SQLite
and numpy, 49 MB read once; later records are read by their key.
"""

import base64
import json
import math
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from omega21.engine.registry import Registry
from omega21.engine.reporting.events import Events
from omega21.engine.reporting.statistics import feedback_statistics
from omega21.engine.run import MOST_WAITING_LISTED, Position, Run
from omega21.engine.step_writer import StepWriter
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.storage.step_values import FloatArray
from omega21.engine.storage.steps import StepTotals
from omega21.language import _
from omega21.models.registry import headline_metrics, metric_labels
from omega21.protocol.errors import KeyReused
from omega21.protocol.evaluations import (
    MAX_EVALUATIONS,
    EvaluationRow,
    EvaluationsReply,
    RecordEvaluation,
)
from omega21.protocol.history import (
    MAX_FEEDBACK,
    FeedbackHistory,
    FeedbackRow,
    Points,
    PointVectors,
    RunPosition,
    SeriesReply,
)
from omega21.protocol.legacy import FeedbackStatistics
from omega21.protocol.runs import RunSummary

VECTOR_SCALE = 127
"""Vectors are sent as signed bytes, which is enough for a colour."""


@dataclass(frozen=True)
class History:
    """Reads the history of runs in a ledger. Thread-safe."""

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    step_writer: StepWriter
    events: Events
    # By run: totals, and the position that they were summed up at.
    _totals: dict[int, tuple[Position, StepTotals]] = field(default_factory=dict)

    # --- series ---

    def position(self, name: str) -> RunPosition:
        """Return a run's position, with the counters of its other records. Raises UnknownRun."""
        with self.registry.locked():
            run = self.registry.get(name)
            summary = run.summary()
        return RunPosition(**self._position(run, summary))

    def series(self, name: str, *, after: int, points: int, vectors: bool) -> SeriesReply:
        """Return at most `points` + 1 points that cover a run's steps. Raises UnknownRun.

        Those that cover steps up to `after` alone are left out.
        """
        with self.registry.locked():
            run = self.registry.get(name)
            summary = run.summary()
            missing = len(run.missing_shards(MOST_WAITING_LISTED))
        self.step_writer.flush_all([run])
        width = self._width(run.key, summary.step, points)
        columns = self.folder.ledger.steps.points(
            run.key, after=after // width * width, until=summary.step, width=width
        )
        metrics = self.folder.ledger.steps.metrics(
            run.key, after=after // width * width, until=summary.step, width=width
        )
        fields: dict[str, Any] = {name: _shorten(name, column) for name, column in columns.items()}
        fields["metrics"] = {name: _shorten(name, column) for name, column in metrics.items()}
        if vectors:
            fields["vectors"] = self._vectors(run, fields["step"])
        kind = run.config.task.kind
        return SeriesReply(
            **self._position(run, summary),
            width=width,
            waiting_for=missing,
            headline=headline_metrics(kind, metrics),
            labels=metric_labels(kind, [*metrics, *fields.get("vectors", ())]),
            points=Points(**fields),
        )

    def _width(self, key: int, last: int, points: int) -> int:
        """Return the smallest power of two as width that gives at most `points` points."""
        first, _last = self.folder.ledger.steps.range(key)
        steps = max(1, last - first + 1)
        return 1 << max(0, math.ceil(steps / points) - 1).bit_length()

    def _vectors(self, run: Run, steps: Sequence[int]) -> dict[str, PointVectors]:
        found = self.folder.ledger.steps.vectors(run.key, steps)
        return {name: encode_vectors(values) for name, values in found.items() if values.size}

    def _position(self, run: Run, summary: RunSummary) -> dict[str, Any]:
        newest = self.folder.ledger.evaluations.newest(run.key)
        evaluations = newest[0] if newest else 0
        feedback, _validated = self.folder.ledger.feedback.counts(run.key)
        events = self.events.version(run)
        seen = (
            summary.id[:8], summary.state, summary.step, summary.target, summary.durable_step,
            evaluations, feedback, events,
        )  # fmt: skip
        return summary.model_dump() | {
            "etag": ".".join(map(str, seen)),
            "evaluations": evaluations,
            "feedback": feedback,
            "events": events,
        }

    def totals(self, name: str) -> StepTotals:
        """Return the totals of a run's steps; cached until there are more. Raises UnknownRun."""
        with self.registry.locked():
            run = self.registry.get(name)
            position = run.position
        self.step_writer.flush_all([run])
        known = self._totals.get(run.key)
        if known is None or known[0] != position:
            known = self._totals[run.key] = position, self.folder.ledger.steps.totals(run.key)
        return known[1]

    # --- feedback and evaluations ---

    def feedback_statistics(self, name: str) -> FeedbackStatistics:
        """Count a run's feedback. Raises UnknownRun."""
        return feedback_statistics(*self.folder.ledger.feedback.counts(self.registry.get(name).key))

    def feedback(self, name: str, *, limit: int = MAX_FEEDBACK) -> FeedbackHistory:
        """Return a run's newest feedback, oldest first. Raises UnknownRun."""
        run = self.registry.get(name)
        return FeedbackHistory(
            run=name,
            statistics=self.feedback_statistics(name),
            feedback=[
                FeedbackRow(at=at, validated=validated, adjustments=adjustments)
                for at, validated, adjustments in self.folder.ledger.feedback.newest(run.key, limit)
            ],
        )

    def record_feedback(
        self,
        name: str,
        adjustments: Sequence[float],
        *,
        validated: bool,
        body: str,
        key: str | None,
    ) -> float:
        """Record adjustments that a client made, and return when they came. Durable.

        `body` is a digest of the whole request, which the same key may repeat. Raises UnknownRun,
        KeyReused.
        """
        with self.registry.locked():
            run = self.registry.get(name)
            known = self.folder.ledger.feedback.by_key(run.key, key) if key is not None else None
            if known is not None:
                if known[0] != body:
                    raise KeyReused(_("this Idempotency-Key was used with other feedback"))
                return known[1]
            at = time.time()
            self.folder.ledger.feedback.add(
                run.key,
                key,
                body=body,
                adjustments=adjustments,
                validated=validated,
                received_at=at,
            )
        return at

    def record_evaluation(self, name: str, evaluation: RecordEvaluation) -> EvaluationRow:
        """Record an evaluation, once. Durable. Raises UnknownRun, OtherRun, RunDeleted."""
        body = evaluation.model_dump_json(exclude={"run_id"})
        with self.registry.locked():
            run = self.registry.get(name, evaluation.run_id)
            number, at = self.folder.ledger.evaluations.add(run.key, body=body)
        self.registry.notify(name)
        return _evaluation((number, at, body))

    def evaluations(self, name: str, *, after: int) -> EvaluationsReply:
        """Return a run's evaluations after number `after`, ascending. Raises UnknownRun."""
        run = self.registry.get(name)
        rows = self.folder.ledger.evaluations.page(run.key, after=after, limit=MAX_EVALUATIONS)
        return EvaluationsReply(run=name, evaluations=[_evaluation(row) for row in rows])

    def newest_evaluation(self, name: str) -> EvaluationRow | None:
        """Return a run's newest evaluation, if it has one. Raises UnknownRun."""
        run = self.registry.get(name)
        row = self.folder.ledger.evaluations.newest(run.key)
        return _evaluation(row) if row else None

    def newest(self, name: str) -> tuple[float | None, dict[str, float | None]]:
        """Return loss and metrics of the newest step that counted. Raises UnknownRun."""
        return self.folder.ledger.steps.newest(self.registry.get(name).key)


def _shorten(name: str, column: Sequence[Any]) -> list[Any]:
    """Round to the digits that a chart shows: times to a millisecond, others to six digits."""
    if name == "ended_at":
        return [round(value, 3) for value in column]
    return [float(f"{value:.6g}") if isinstance(value, float) else value for value in column]


def encode_vectors(values: FloatArray) -> PointVectors:
    """Encode values [n, size] as signed bytes, in steps of the largest value / 127."""
    scale = float(np.abs(values).max(initial=0.0))
    scaled = np.rint(values / (scale or 1.0) * VECTOR_SCALE).astype(np.int8)
    return PointVectors(
        size=values.shape[1], scale=scale, values=base64.b64encode(scaled.tobytes()).decode()
    )


def _evaluation(row: Sequence[Any]) -> EvaluationRow:
    number, at, body = row
    return EvaluationRow.model_validate({**json.loads(body), "number": number, "at": at})
