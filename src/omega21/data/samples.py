"""Samples as named tensors: their conversion to a schema, checks of values, statistics."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omega21.data.schema import check_form, is_rounded, named_arrays
from omega21.language import _
from omega21.language.figures import decimal
from omega21.protocol.errors import InvalidSamples
from omega21.protocol.plan import SamplesType
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.shards import Tensors

_LARGEST_FLOAT16: Final = float(np.finfo(np.float16).max)


class Samples(NamedTuple):
    """Labelled samples, in order: `x` float32 [n, …], `y` float32 [n], such as generated ones."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]

    @property
    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The two tensors by name."""
        return {"x": self.x, "y": self.y}


Check = Callable[[Tensors], tuple[int, str] | None]
"""A check of values that a kind of task asks for: the position of the first sample that cannot be
trained, and why. It is called with all tensors, or with the targets alone."""


def to_schema(
    tensors: Mapping[str, NDArray[Any]],
    specs: Mapping[str, TensorSpec],
    *,
    check: Check | None = None,
    numbers: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[np.generic]]:
    """Convert tensors of the right shapes to the schema's types, in C order.

    `numbers` [n] identify the samples in an error; by default their positions. Raises
    InvalidSamples, naming the first sample with a value that the type does not have, or that
    `check` refuses.
    """
    converted = {}
    invalid: tuple[int, str] | None = None
    for name, spec in specs.items():
        given = tensors[name]
        with np.errstate(over="ignore", invalid="ignore"):
            array = np.ascontiguousarray(given, dtype=spec.numpy_type)
        converted[name] = array
        if invalid is None and not np.can_cast(given.dtype, array.dtype, "safe"):
            invalid = _lost(name, given, array)
    if invalid is None and check is not None:
        invalid = check(converted)
    if invalid is not None:
        position, what = invalid
        number = position if numbers is None else int(numbers[position])
        raise InvalidSamples(_("{what}, sample {number}").format(what=what, number=number))
    return converted


def _lost(name: str, given: NDArray[Any], array: NDArray[np.generic]) -> tuple[int, str] | None:
    """Find a value that another type does not have; floats are rounded, and may not overflow."""
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array)
        if bad.any() and given.dtype.kind == "f":
            bad &= np.isfinite(given)
    else:
        bad = array != given
    if not bad.any():
        return None
    position = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
    return (
        position,
        _("a value of {name} does not fit in {dtype}").format(name=name, dtype=array.dtype.name),
    )


def as_samples(
    given: Any, schema: Schema, *, check: Check | None = None
) -> dict[str, NDArray[np.generic]]:
    """Convert a map of arrays, or a pair (x, y), to the samples of a schema.

    Other tensors of the map are left out. Raises InvalidSamples for anything else, or for samples
    that cannot be trained.
    """
    return _converted(given, schema.tensors, check=check)


def as_inputs(
    given: Any, schema: Schema, *, check: Check | None = None
) -> dict[str, NDArray[np.generic]]:
    """Convert a map of arrays, or the one input itself, as `as_samples` does, without targets."""
    if not isinstance(given, Mapping):
        if len(schema.inputs) != 1:
            raise InvalidSamples(
                _("samples have the inputs {names}").format(names=", ".join(schema.inputs)),
                hint=_("pass a map with an array for each of them"),
            )
        given = {next(iter(schema.inputs)): given}
    return _converted(given, schema.inputs, check=check)


def _converted(
    given: Any, specs: Mapping[str, TensorSpec], *, check: Check | None
) -> dict[str, NDArray[np.generic]]:
    arrays = named_arrays(given)
    check_form(arrays, specs)
    return to_schema(arrays, specs, check=check)


def as_type(
    tensors: Tensors, samples_type: SamplesType, *, schema: Schema
) -> dict[str, NDArray[np.generic]]:
    """Return a shard's tensors: with float16, each float32 input is rounded to 11 bits.

    Raises InvalidSamples for a value beyond its range.
    """
    if samples_type == "float32":
        return dict(tensors)
    return {
        name: _to_float16(name, array) if is_rounded(name, schema) else array
        for name, array in tensors.items()
    }


def _to_float16(name: str, array: NDArray[np.generic]) -> NDArray[np.float16]:
    values = np.asarray(array, np.float32)
    if (np.abs(values) > _LARGEST_FLOAT16).any():
        raise InvalidSamples(
            _("a value of {name} is beyond {most}, the maximum of float16").format(
                name=name, most=decimal(_LARGEST_FLOAT16, 0)
            ),
            hint=_("send these samples as float32"),
        )
    return values.astype(np.float16)


# --- statistics -----------------------------------------------------------------------------------


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
