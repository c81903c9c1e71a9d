"""Samples in memory, their checks, and the statistics of a set."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from omega21.language import _
from omega21.language.figures import decimal
from omega21.protocol.errors import InvalidSamples, OmegaError
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


class Shaped(Protocol):
    """An array, or a tensor in a file: anything with rows of one type."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its items."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""


def as_samples(given: Iterable[Any]) -> Samples:
    """Convert (x, y) to samples: arrays or lists of numbers, of any type and layout.

    Raises InvalidSamples for anything else, or for samples that cannot be trained.
    """
    parts = [] if isinstance(given, np.ndarray | str | bytes | dict) else list(given)
    if len(parts) != 2:
        raise InvalidSamples(
            _("samples are a pair (x, y), got {kind}").format(kind=type(given).__name__),
            hint=_("pass Samples(x, y): x [n, {features}], y [n]").format(features=FEATURES),
        )
    x, y = _numbers("x", parts[0]), _numbers("y", parts[1])
    check_form(x, y)
    with np.errstate(over="ignore"):  # values beyond float32 are reported by the check
        samples = Samples(
            np.ascontiguousarray(x, dtype=np.float32), np.ascontiguousarray(y, dtype=np.float32)
        )
    check_samples(samples)
    return samples


def as_features(x: Any) -> NDArray[np.float32]:
    """Convert x [n, 1600] as `as_samples` does, for samples without labels."""
    features = _numbers("x", x)
    return as_samples((features, np.zeros(len(features) if features.ndim else 0))).x


def _numbers(name: str, given: Any) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise InvalidSamples(
            _("{name} is not an array of numbers: {reason}").format(name=name, reason=error),
            hint=_("give every sample {features} numbers").format(features=FEATURES),
        ) from error


def check_form(x: Shaped, y: Shaped, *, error: type[OmegaError] = InvalidSamples) -> None:
    """Check types and shapes: x [n, 1600], y [n], numbers, n at least 1.

    Raises `error` for another type or another number of dimensions, else InvalidSamples.
    """
    for name, tensor in (("x", x), ("y", y)):
        if tensor.dtype.kind not in "fiub":
            raise error(
                _("tensor {name} has type {dtype}, not a numeric one").format(
                    name=name, dtype=tensor.dtype
                )
            )
    if len(x.shape) != 2 or len(y.shape) != 1:
        raise error(
            _("x has shape {x} and y {y}").format(x=list(x.shape), y=list(y.shape)),
            hint=_("x has one row of {features} features for each sample, y one label").format(
                features=FEATURES
            ),
        )
    if x.shape[1] != FEATURES:
        raise InvalidSamples(
            _("expected {features} features, got {got}").format(features=FEATURES, got=x.shape[1])
        )
    if x.shape[0] != y.shape[0]:
        raise InvalidSamples(
            _("x has {samples} samples, y has {labels} labels").format(
                samples=x.shape[0], labels=y.shape[0]
            )
        )
    if x.shape[0] == 0:
        raise InvalidSamples(_("the data set has no samples"))


def as_type(samples: Samples, samples_type: SamplesType) -> dict[str, NDArray[np.generic]]:
    """Return a shard's tensors: `x` [n, 1600] of a type, `y` [n] float32.

    float16 rounds each feature to 11 significant bits. Raises InvalidSamples for one beyond its
    range.
    """
    if samples_type == "float32":
        return {"x": samples.x, "y": samples.y}
    if (np.abs(samples.x) > _LARGEST_FLOAT16).any():
        raise InvalidSamples(
            _("a feature is beyond {most}, the maximum of float16").format(
                most=decimal(_LARGEST_FLOAT16, 0)
            ),
            hint=_("send these samples as float32"),
        )
    return {"x": samples.x.astype(np.float16), "y": samples.y}


class Statistics(NamedTuple):
    """Statistics of a set of samples: counts, the share of anomalies, and the features' range."""

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

    Raises ValueError for an empty set, which has no range and no mean.
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

    `numbers` [n] identify the samples in the error; by default their positions.
    Raises InvalidSamples, naming the first invalid sample.
    """
    for bad, what in (
        (~np.isfinite(samples.x).all(axis=1), _("a feature is NaN, infinite or beyond float32")),
        ((samples.y != 0) & (samples.y != 1), _("the label is neither 0 nor 1")),
    ):
        if bad.any():
            place = int(np.argmax(bad))
            number = place if numbers is None else int(numbers[place])
            raise InvalidSamples(_("{what}, sample {number}").format(what=what, number=number))
