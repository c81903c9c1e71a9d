"""Metrics of binary classification: AUROC, average precision, and their curves.

Both depend only on the order of the scores; samples of equal score are one threshold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omega21.language import _
from omega21.protocol.errors import InvalidSamples


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the area under the ROC curve: P(a positive scores above a negative), ties count half.

    By ranks (Mann and Whitney, 1947). `scores` [n] are finite, `labels` [n] are 0 or 1. Raises
    InvalidSamples for other input, or when a class is missing.
    """
    _, negative, positive = _counts_by_score(scores, labels)
    negative_below = np.cumsum(negative) - negative
    wins = np.sum(positive * (negative_below + negative / 2))
    return float(wins / (negative.sum() * positive.sum()))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the average precision: the sum of (increase of recall) times (precision).

    One term for each distinct score as threshold, in descending order, without interpolation.
    `scores` [n] are finite, `labels` [n] are 0 or 1. Raises InvalidSamples for other input, or
    when a class is missing.
    """
    _, negative, positive = (counts[::-1] for counts in _counts_by_score(scores, labels))
    found = np.cumsum(positive)
    precision = found / (found + np.cumsum(negative))
    return float(np.sum(positive * precision) / found[-1])


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The classification at each threshold, in descending order; each array is [thresholds].

    A sample is classified as positive if its score is at least `threshold`.
    """

    threshold: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    positives: int
    negatives: int

    @property
    def recall(self) -> NDArray[np.float64]:
        """True positive rate, the y axis of the ROC curve."""
        return self.true_positives / self.positives

    @property
    def fall_out(self) -> NDArray[np.float64]:
        """False positive rate, the x axis of the ROC curve."""
        return self.false_positives / self.negatives

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of those classified as positive that are."""
        return self.true_positives / (self.true_positives + self.false_positives)

    def best(self) -> int:
        """Return the index of the threshold with the best F1 score, the highest of equal ones."""
        classified = self.true_positives + self.false_positives
        f1 = 2 * self.true_positives / (classified + self.positives)
        return int(np.argmax(f1))


def thresholds(scores: ArrayLike, labels: ArrayLike) -> Thresholds:
    """Classify at each distinct score as threshold; input and errors as for `auroc`."""
    distinct, negative, positive = _counts_by_score(scores, labels)
    return Thresholds(
        threshold=distinct[::-1],
        true_positives=np.cumsum(positive[::-1]),
        false_positives=np.cumsum(negative[::-1]),
        positives=int(positive.sum()),
        negatives=int(negative.sum()),
    )


def _counts_by_score(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each distinct score, ascending, with its numbers of negatives and positives."""
    values = np.asarray(scores, dtype=np.float64)
    is_positive = np.asarray(labels)
    if values.ndim != 1 or values.shape != is_positive.shape:
        raise InvalidSamples(
            _("there are {scores} scores and {labels} labels").format(
                scores=values.shape, labels=is_positive.shape
            )
        )
    if not np.isfinite(values).all():
        raise InvalidSamples(_("a score is NaN or infinite"))
    if not np.isin(is_positive, (0, 1)).all():
        raise InvalidSamples(_("a label is neither 0 nor 1"))
    distinct, place = np.unique(values, return_inverse=True)
    positive = np.bincount(place[is_positive == 1], minlength=len(distinct)).astype(np.int64)
    negative = np.bincount(place[is_positive == 0], minlength=len(distinct)).astype(np.int64)
    if not negative.sum() or not positive.sum():
        raise InvalidSamples(
            _("ranking scores need samples of both classes"),
            hint=_("validate on more samples, or on some of both classes"),
        )
    return distinct, negative, positive
