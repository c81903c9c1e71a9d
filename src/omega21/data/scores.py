"""Metrics of binary classification: AUROC, average precision, and their curves.

Both depend only on the order of the scores; samples of equal score are one threshold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omega21.language import _
from omega21.protocol.errors import InvalidSamples


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the area under the ROC curve: P(anomaly scores above normal), ties count half.

    By ranks (Mann and Whitney, 1947). `scores` [n] are finite, `labels` [n] are 0 or 1. Raises
    InvalidSamples for other input, or when a class is missing.
    """
    _, normal, anomalous = _counts_by_score(scores, labels)
    normal_below = np.cumsum(normal) - normal
    wins = np.sum(anomalous * (normal_below + normal / 2))
    return float(wins / (normal.sum() * anomalous.sum()))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the average precision: the sum of (increase of recall) times (precision).

    One term for each distinct score as threshold, in descending order, without interpolation.
    `scores` [n] are finite, `labels` [n] are 0 or 1. Raises InvalidSamples for other input, or
    when a class is missing.
    """
    _, normal, anomalous = (counts[::-1] for counts in _counts_by_score(scores, labels))
    found = np.cumsum(anomalous)
    precision = found / (found + np.cumsum(normal))
    return float(np.sum(anomalous * precision) / found[-1])


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The classification at each threshold, in descending order; each array is [thresholds].

    A sample is classified as an anomaly if its score is at least `threshold`: `found` is the
    number of true positives among `anomalies`, `false_alarms` that of false positives among
    `normal`.
    """

    threshold: NDArray[np.float64]
    found: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    anomalies: int
    normal: int

    @property
    def recall(self) -> NDArray[np.float64]:
        """True positive rate, the y axis of the ROC curve."""
        return self.found / self.anomalies

    @property
    def fall_out(self) -> NDArray[np.float64]:
        """False positive rate, the x axis of the ROC curve."""
        return self.false_alarms / self.normal

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the positives that are anomalies."""
        return self.found / (self.found + self.false_alarms)

    def best(self) -> int:
        """Return the index of the threshold with the best F1 score, the highest of equal ones."""
        f1 = 2 * self.found / (self.found + self.false_alarms + self.anomalies)
        return int(np.argmax(f1))


def thresholds(scores: ArrayLike, labels: ArrayLike) -> Thresholds:
    """Classify at each distinct score as threshold; input and errors as for `auroc`."""
    distinct, normal, anomalous = _counts_by_score(scores, labels)
    return Thresholds(
        threshold=distinct[::-1],
        found=np.cumsum(anomalous[::-1]),
        false_alarms=np.cumsum(normal[::-1]),
        anomalies=int(anomalous.sum()),
        normal=int(normal.sum()),
    )


def _counts_by_score(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each distinct score, ascending, with its numbers of normal samples and anomalies."""
    values = np.asarray(scores, dtype=np.float64)
    is_anomaly = np.asarray(labels)
    if values.ndim != 1 or values.shape != is_anomaly.shape:
        raise InvalidSamples(
            _("there are {scores} scores and {labels} labels").format(
                scores=values.shape, labels=is_anomaly.shape
            )
        )
    if not np.isfinite(values).all():
        raise InvalidSamples(_("a score is NaN or infinite"))
    if not np.isin(is_anomaly, (0, 1)).all():
        raise InvalidSamples(_("a label is neither 0 nor 1"))
    distinct, place = np.unique(values, return_inverse=True)
    anomalous = np.bincount(place[is_anomaly == 1], minlength=len(distinct)).astype(np.int64)
    normal = np.bincount(place[is_anomaly == 0], minlength=len(distinct)).astype(np.int64)
    if not normal.sum() or not anomalous.sum():
        raise InvalidSamples(
            _("ranking scores need both normal samples and anomalies"),
            hint=_("validate on more samples or with a larger share of anomalies"),
        )
    return distinct, normal, anomalous
