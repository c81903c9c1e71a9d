"""What a sample is in memory, and the figures that describe a set of them."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omega21.language import _
from omega21.language.figures import decimal
from omega21.protocol.errors import InvalidSamples
from omega21.protocol.plan import SamplesType

FEATURES: Final = 1600
"""Features of one sample."""


_LARGEST_FLOAT16: Final = float(np.finfo(np.float16).max)


class Samples(NamedTuple):
    """A set of samples, in order.

    `x` is float32 [n, 1600]; `y` is float32 [n], 0 for normal and 1 for an anomaly.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]


def as_type(samples: Samples, samples_type: SamplesType) -> dict[str, NDArray[np.generic]]:
    """Return a shard's tensors: `x` [n, 1600] of a type, `y` [n] float32.

    float16 rounds each feature to 11 significant bits. Raises InvalidSamples for one beyond its
    range.
    """
    if samples_type == "float32":
        return {"x": samples.x, "y": samples.y}
    if (np.abs(samples.x) > _LARGEST_FLOAT16).any():
        raise InvalidSamples(
            _("a feature is beyond {most}, the largest that float16 holds").format(
                most=decimal(_LARGEST_FLOAT16, 0)
            ),
            hint=_("send these samples as float32"),
        )
    return {"x": samples.x.astype(np.float16), "y": samples.y}


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
        raise ValueError(_("an empty set of samples has no statistics"))
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
        (~np.isfinite(samples.x).all(axis=1), _("a feature is NaN, infinite or beyond float32")),
        ((samples.y != 0) & (samples.y != 1), _("the label is neither 0 nor 1")),
    ):
        if bad.any():
            place = int(np.argmax(bad))
            number = place if numbers is None else int(numbers[place])
            raise InvalidSamples(_("{what}, sample {number}").format(what=what, number=number))
