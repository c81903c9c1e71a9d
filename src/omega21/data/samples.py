"""What a sample is in memory, and the figures that describe a set of them."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omega21.protocol.errors import InvalidSamples

FEATURES: Final = 1600
"""Features of one sample."""


class Samples(NamedTuple):
    """A set of samples, in order.

    `x` is float32 [n, 1600]; `y` is float32 [n], 0 for normal and 1 for an anomaly.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]


class Statistics(NamedTuple):
    """What a set of samples holds: counts, the share of anomalies, and the features' range."""

    samples: int
    normal: int
    anomalies: int
    anomaly_percent: float
    minimum: float
    maximum: float
    mean: float
    standard_deviation: float


def statistics(samples: Samples) -> Statistics:
    """Describe a set of at least one sample; sums are taken in float64.

    Raises ValueError on an empty set, of which there is no range and no mean.
    """
    count = len(samples.y)
    if count == 0:
        raise ValueError("an empty set of samples has no statistics")
    anomalies = int(np.count_nonzero(samples.y))
    return Statistics(
        samples=count,
        normal=count - anomalies,
        anomalies=anomalies,
        anomaly_percent=100.0 * anomalies / count,
        minimum=float(samples.x.min()),
        maximum=float(samples.x.max()),
        mean=float(samples.x.mean(dtype=np.float64)),
        standard_deviation=float(samples.x.std(dtype=np.float64)),
    )


def check_samples(samples: Samples, *, numbers: NDArray[np.int64] | None = None) -> None:
    """Check that every feature is finite and every label 0 or 1.

    `numbers` [n] are the names of the samples in what is said of them; by default their places.
    Raises InvalidSamples, naming the first sample that is not fit for training.
    """
    for bad, what in (
        (~np.isfinite(samples.x).all(axis=1), "a feature is NaN, infinite or beyond float32"),
        ((samples.y != 0) & (samples.y != 1), "the label is neither 0 nor 1"),
    ):
        if bad.any():
            place = int(np.argmax(bad))
            number = place if numbers is None else int(numbers[place])
            raise InvalidSamples(f"{what}, sample {number}")
