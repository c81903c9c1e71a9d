"""How well scores rank anomalies above normal samples: AUROC and average precision.

Both depend on the order of the scores alone; samples of equal score are taken together.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omega21.protocol.errors import InvalidSamples


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: how often an anomaly scores above a normal sample, ties half.

    By ranks (Mann and Whitney, 1947). `scores` [n] are finite, `labels` [n] are 0 or 1. Raises
    InvalidSamples for other input, or when a class is missing.
    """
    normal, anomalous = _counts_by_score(scores, labels)
    normal_below = np.cumsum(normal) - normal
    wins = np.sum(anomalous * (normal_below + normal / 2))
    return float(wins / (normal.sum() * anomalous.sum()))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean precision over the anomalies found: sum of (recall gained) times (precision).

    One term for each distinct score as threshold, from the highest down, without interpolation.
    `scores` [n] are finite, `labels` [n] are 0 or 1. Raises InvalidSamples for other input, or
    when a class is missing.
    """
    normal, anomalous = (counts[::-1] for counts in _counts_by_score(scores, labels))
    found = np.cumsum(anomalous)
    precision = found / (found + np.cumsum(normal))
    return float(np.sum(anomalous * precision) / found[-1])


def _counts_by_score(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count normal samples and anomalies at each distinct score, lowest first."""
    values = np.asarray(scores, dtype=np.float64)
    is_anomaly = np.asarray(labels)
    if values.ndim != 1 or values.shape != is_anomaly.shape:
        raise InvalidSamples(f"{values.shape} scores do not fit {is_anomaly.shape} labels")
    if not np.isfinite(values).all():
        raise InvalidSamples("a score is NaN or infinite")
    if not np.isin(is_anomaly, (0, 1)).all():
        raise InvalidSamples("a label is neither 0 nor 1")
    distinct, place = np.unique(values, return_inverse=True)
    anomalous = np.bincount(place[is_anomaly == 1], minlength=len(distinct)).astype(np.int64)
    normal = np.bincount(place[is_anomaly == 0], minlength=len(distinct)).astype(np.int64)
    if not normal.sum() or not anomalous.sum():
        raise InvalidSamples(
            "ranking scores need both normal samples and anomalies",
            hint="validate on more samples or with a larger share of anomalies",
        )
    return normal, anomalous
