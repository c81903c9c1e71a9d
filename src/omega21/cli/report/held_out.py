"""The section of a report on held-out samples: the newest evaluation, and what each one scored."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omega21.cli.metric_text import metric_rows
from omega21.cli.report import charts
from omega21.cli.report.blocks import Block, Chart, KeyValues, Section, Table, Text
from omega21.client.run_reader import StoredRun
from omega21.client.store.result_tables import StoredEvaluation
from omega21.data.scores import Thresholds
from omega21.language import _, ngettext
from omega21.language.figures import count, number, percent, score
from omega21.protocol.evaluations import Evaluation

FloatArray = NDArray[np.float64]

_SHOWN: Final = 10
"""Maximum number of samples in a list."""


def held_out(
    stored: StoredRun,
    evaluations: Sequence[StoredEvaluation],
    *,
    scores: tuple[FloatArray, FloatArray],
    curve: Thresholds | None,
) -> Section:
    """Describe the newest evaluation: its figures, and the scores of the samples."""
    title, wanted = _("Held-out samples"), stored.record.validation
    if not evaluations and wanted:
        text = _("{count} samples are held out and not scored yet: the run is not finished.")
        return Section(title, [Text(text.format(count=count(wanted)))])
    if not evaluations:
        return Section(title, [Text(_("No samples were held out, so there are no scores."))])
    newest = evaluations[-1].evaluation
    return Section(
        title, [_evaluated(newest, stored.record.config.task.kind), *_scored(*scores, curve)]
    )


def _evaluated(evaluation: Evaluation, task: str) -> Block:
    """List all figures of an evaluation."""
    rows = [
        (_("step"), count(evaluation.step)),
        (_("samples"), count(evaluation.samples)),
        (_("loss"), number(evaluation.loss)),
        *metric_rows(task, evaluation.metrics, evaluation.metrics),
    ]
    return KeyValues(rows)


def _scored(scores: FloatArray, labels: FloatArray, curve: Thresholds | None) -> list[Block]:
    """Show the scores of the newest evaluation; nothing for a task that gives none."""
    if not len(scores):
        return []
    if curve is None:
        one_class = _("The {count} held-out samples are all of one class.")
        return [Text(one_class.format(count=count(len(scores))))]
    best = curve.best()
    threshold = float(curve.threshold[best])
    drawn = [
        Chart("roc", _("ROC curve; the dot is the best threshold"), lambda: charts.roc(curve)),
        Chart(
            "precision-recall",
            _("Precision and recall; the dot is the best threshold"),
            lambda: charts.precision_recall(curve),
        ),
        Chart(
            "distribution",
            _("Distribution of the scores; the dashed line is the best threshold"),
            lambda: charts.distribution(scores, labels, threshold=threshold),
        ),
    ]
    return [charts.as_block(drawn), *_confusion(curve, best), *_extremes(scores, labels, threshold)]


def _confusion(curve: Thresholds, best: int) -> list[Block]:
    found, wrong = int(curve.true_positives[best]), int(curve.false_positives[best])
    text = _(
        "At the best threshold, {threshold} (highest F1): precision {precision}, recall {recall}."
    ).format(
        threshold=score(float(curve.threshold[best])),
        precision=percent(float(curve.precision[best]), 1),
        recall=percent(float(curve.recall[best]), 1),
    )
    rows = [
        (_("positives"), count(found), count(curve.positives - found)),
        (_("negatives"), count(wrong), count(curve.negatives - wrong)),
    ]
    return [Text(text), Table(("", _("predicted positive"), _("predicted negative")), rows)]


def _extremes(scores: FloatArray, labels: FloatArray, threshold: float) -> list[Block]:
    """List the positives that score highest, those that were missed, and the false positives."""
    alarm = scores >= threshold
    order = np.argsort(-scores, kind="stable")
    groups = (
        (_("found"), order[(labels[order] == 1) & alarm[order]]),
        (_("missed"), order[::-1][(labels[order[::-1]] == 1) & ~alarm[order[::-1]]]),
        (_("false positive"), order[(labels[order] == 0) & alarm[order]]),
    )
    rows = [
        (what, count(int(sample)), score(float(scores[sample])))
        for what, samples in groups
        for sample in samples[:_SHOWN]
    ]
    found, missed, alarms = (len(samples) for _what, samples in groups)
    summary = ", ".join(
        (
            ngettext("{count} found", "{count} found", found).format(count=count(found)),
            ngettext("{count} missed", "{count} missed", missed).format(count=count(missed)),
            ngettext("{count} false positive", "{count} false positives", alarms).format(
                count=count(alarms)
            ),
        )
    )
    titles = (_("outcome"), _("held-out sample"), _("score"))
    text = _("Positives: {outcomes}.").format(outcomes=summary)
    return [Text(text), Table(titles, rows)]
