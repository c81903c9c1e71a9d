"""How the metrics and vectors of steps are stored: float32, by names that are stored once.

A layout is the names of a step's metrics and the names and sizes of its vectors. A run has one as
long as its task gives the same; a step refers to its layout by number.
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from omega21.protocol.steps import float32_as_json

FloatArray = NDArray[np.float32]

_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Layout:
    """The order of the values of a step: names of metrics, (name, size) of vectors."""

    metrics: tuple[str, ...]
    vectors: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, metrics: Mapping[str, object], vectors: Mapping[str, FloatArray]) -> Self:
        """Return the layout of a step."""
        return cls(tuple(metrics), tuple((name, len(values)) for name, values in vectors.items()))

    def text(self) -> str:
        """Return the layout as it is stored."""
        return json.dumps({"metrics": self.metrics, "vectors": self.vectors})

    def unpack_metrics(self, stored: bytes) -> dict[str, float | None]:
        """Return the metrics by name, as `metrics_to_store` made them."""
        return {
            name: float32_as_json(value) if value == value else None  # noqa: PLR0124 - not NaN
            for name, value in zip(self.metrics, unpack(stored), strict=True)
        }

    def unpack_vectors(self, stored: bytes) -> dict[str, FloatArray]:
        """Return the vectors by name."""
        values = np.frombuffer(stored, "<f4")
        ends = np.cumsum([size for _name, size in self.vectors])
        return {
            name: values[end - size : end]
            for (name, size), end in zip(self.vectors, ends, strict=True)
        }


@lru_cache(maxsize=256)
def parse_layout(text: str) -> Layout:
    """Read a stored layout."""
    found = json.loads(text)
    return Layout(
        tuple(found["metrics"]), tuple((name, int(size)) for name, size in found["vectors"])
    )


def metrics_to_store(metrics: Mapping[str, float], *, counted: bool) -> dict[str, float | None]:
    """Return metrics as a record has them: the shortest decimals that are the same float32.

    None where one is not finite or beyond float32, or the step did not count. NaN fails the
    comparison, too.
    """
    return {
        name: float32_as_json(value) if counted and abs(value) <= _LARGEST else None
        for name, value in metrics.items()
    }


def vectors_to_store(vectors: Mapping[str, FloatArray], *, counted: bool) -> dict[str, FloatArray]:
    """Return vectors with 0 where a value is not finite, which JSON has not, or did not count."""
    with np.errstate(over="ignore"):
        known = {name: values.astype(np.float32, copy=False) for name, values in vectors.items()}
    if not counted:
        return {name: np.zeros_like(values) for name, values in known.items()}
    return {
        name: v if np.isfinite(v).all() else np.where(np.isfinite(v), v, np.float32(0))
        for name, v in known.items()
    }


def pack_metrics(metrics: Mapping[str, float | None]) -> bytes:
    """Return metrics as they are stored: NaN for None."""
    values = [float("nan") if value is None else value for value in metrics.values()]
    return struct.pack(f"<{len(values)}f", *values)


def unpack(stored: bytes) -> tuple[float, ...]:
    """Return stored metrics in their layout's order: NaN where one is missing."""
    return struct.unpack(f"<{len(stored) // 4}f", stored)


def pack_vectors(vectors: Mapping[str, FloatArray]) -> bytes:
    """Return vectors as they are stored, one after the other."""
    return b"".join(values.astype("<f4", copy=False).tobytes() for values in vectors.values())


MetricSums = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Of each metric, for each group of steps: the sum of value × samples, and of the samples."""


def sum_metrics(
    rows: Sequence[tuple[int, str, bytes]], groups: NDArray[np.int64], *, count: int
) -> MetricSums:
    """Sum up each metric in each of `count` groups of steps, weighted by samples.

    `rows` are (samples, layout, metrics) of steps, `groups` the number of each one's group. Steps
    without a metric, and values that are not finite, do not count.
    """
    weights = np.array([samples for samples, _layout, _stored in rows], np.float64)
    sums: MetricSums = {}
    for text, places in _by_layout(rows).items():
        names = parse_layout(text).metrics
        stored = b"".join(rows[place][2] for place in places)
        table = np.frombuffer(stored, "<f4").reshape(len(places), len(names)).astype(np.float64)
        at, weight = groups[places], weights[places]
        for column, name in enumerate(names):
            known = np.isfinite(table[:, column])
            counted = np.where(known, weight, 0.0)
            values = np.where(known, table[:, column], 0.0) * counted
            before = sums.get(name, (np.zeros(count), np.zeros(count)))
            sums[name] = (
                before[0] + np.bincount(at, values, count),
                before[1] + np.bincount(at, counted, count),
            )
    return sums


def add_sums(some: MetricSums, more: MetricSums) -> MetricSums:
    """Add the sums of other steps, for the same groups."""
    both = {
        name: (some[name][0] + more[name][0], some[name][1] + more[name][1])
        for name in some.keys() & more.keys()
    }
    return {**some, **more, **both}


def metric_means(sums: MetricSums) -> dict[str, list[float | None]]:
    """Return the mean of each metric in each group; None where no step has one."""
    return {
        name: [
            total / weight if weight else None
            for total, weight in zip(totals.tolist(), weights.tolist(), strict=True)
        ]
        for name, (totals, weights) in sums.items()
    }


def _by_layout(rows: Iterable[tuple[int, str, bytes]]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, (_samples, layout, _stored) in enumerate(rows):
        places.setdefault(layout, []).append(place)
    return places


def stack_vectors(rows: Sequence[tuple[str, bytes]]) -> dict[str, FloatArray]:
    """Return each vector [n, size] of n steps, from (layout, vectors) of each.

    A size is that of the last step that has the vector; 0 stands where a step has none of it.
    """
    unpacked = [parse_layout(text).unpack_vectors(stored) for text, stored in rows]
    sizes = {name: len(values) for vectors in unpacked for name, values in vectors.items()}
    stacked = {name: np.zeros((len(rows), size), np.float32) for name, size in sizes.items()}
    for place, vectors in enumerate(unpacked):
        for name, values in vectors.items():
            if len(values) == sizes[name]:
                stacked[name][place] = values
    return stacked
