"""How well scores tell anomalies from normal samples: AUROC, average precision, their curves.

The two figures depend on the order of the scores alone; samples of equal score are taken together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omega21.language import _
from omega21.protocol.errors import InvalidSamples


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: how often an anomaly scores above a normal sample, ties half.

    By ranks (Mann and Whitney, 1947). `scores` [n] are finite, `labels` [n] are 0 or 1. Raises
    InvalidSamples for other input, or when a class is missing.
    """
    _, normal, anomalous = _counts_by_score(scores, labels)
    normal_below = np.cumsum(normal) - normal
    wins = np.sum(anomalous * (normal_below + normal / 2))
    return float(wins / (normal.sum() * anomalous.sum()))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean precision over the anomalies found: sum of (recall gained) times (precision).

    One term for each distinct score as threshold, from the highest down, without interpolation.
    `scores` [n] are finite, `labels` [n] are 0 or 1. Raises InvalidSamples for other input, or
    when a class is missing.
    """
    _, normal, anomalous = (counts[::-1] for counts in _counts_by_score(scores, labels))
    found = np.cumsum(anomalous)
    precision = found / (found + np.cumsum(normal))
    return float(np.sum(anomalous * precision) / found[-1])


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What each threshold makes of scores; the highest first, each array [thresholds].

    A sample whose score is at least `threshold` is taken for an anomaly: `found` of the
    `anomalies` then are, and `false_alarms` of the `normal` samples.
    """

    threshold: NDArray[np.float64]
    found: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    anomalies: int
    normal: int

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the anomalies that are found: the ROC curve's height, too."""
        return self.found / self.anomalies

    @property
    def fall_out(self) -> NDArray[np.float64]:
        """Share of the normal samples that are false alarms: the ROC curve's width."""
        return self.false_alarms / self.normal

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the alarms that are anomalies."""
        return self.found / (self.found + self.false_alarms)

    def best(self) -> int:
        """Return the place of the threshold with the highest F1 score, the highest of those."""
        f1 = 2 * self.found / (self.found + self.false_alarms + self.anomalies)
        return int(np.argmax(f1))


def thresholds(scores: ArrayLike, labels: ArrayLike) -> Thresholds:
    """Take each distinct score as a threshold; input and errors as for `auroc`."""
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
    """Return each distinct score, lowest first, with its normal samples and anomalies."""
    values = np.asarray(scores, dtype=np.float64)
    is_anomaly = np.asarray(labels)
    if values.ndim != 1 or values.shape != is_anomaly.shape:
        raise InvalidSamples(
            _("{scores} scores do not fit {labels} labels").format(
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
