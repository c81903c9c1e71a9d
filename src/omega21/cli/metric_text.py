"""Metrics as text: what they are called, and how their values are written."""

from collections.abc import Iterable, Mapping
from typing import Final

from omega21.language import N_, _
from omega21.language.figures import count, number, score
from omega21.models.registry import headline_metrics, metric_label
from omega21.protocol.evaluations import SCORE_COUNTS, SCORE_METRICS, Evaluation
from omega21.protocol.metrics import LOSS

MOST_SHOWN: Final = 3
"""Maximum number of metrics in a line or a short table, besides the loss."""

_LABELS: Final = {
    LOSS: N_("loss"),
    "auroc": N_("AUROC"),
    "average_precision": N_("average precision"),
    "positives": N_("positives"),
    "true_positives": N_("true positives"),
    "false_positives": N_("false positives"),
}


def metric_name(task: str, name: str) -> str:
    """Return how a metric of a task is called."""
    return _(_LABELS[name]) if name in _LABELS else metric_label(task, name)


def metric_value(name: str, value: float | None, digits: int = 4) -> str:
    """Format the value of a metric."""
    if value is not None and name in SCORE_COUNTS and value == int(value):
        return count(int(value))
    is_share = value is not None and 0 <= value <= 1
    return score(value, digits) if is_share else number(value, digits)


def shown_metrics(task: str, names: Iterable[str]) -> list[str]:
    """Return the metrics that a short view shows besides those of the scores."""
    own = [name for name in headline_metrics(task, names) if name not in SCORE_METRICS]
    return own[:MOST_SHOWN]


def first_metric(task: str, evaluation: Evaluation) -> tuple[str, float | None]:
    """Return the metric by which an evaluation is known, with its value.

    AUROC for a task that scores samples, else the task's first metric, else the loss.
    """
    metrics = evaluation.metrics
    names = ["auroc"] if "auroc" in metrics else shown_metrics(task, metrics)
    return (names[0], metrics[names[0]]) if names else (LOSS, evaluation.loss)


def metric_rows(
    task: str, metrics: Mapping[str, float | None], names: Iterable[str]
) -> list[tuple[str, str]]:
    """Return names and values of metrics."""
    return [(metric_name(task, name), metric_value(name, metrics[name])) for name in names]
