"""Schemas of all kinds, and samples of them, for tests of what is true of any."""

from typing import get_args

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from omega21.protocol.schema import Schema, TensorSpec, TensorType

Array = NDArray[np.generic]

TYPES = get_args(TensorType)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
SPECS = st.builds(
    TensorSpec,
    dtype=st.sampled_from(TYPES),
    shape=st.lists(st.integers(1, 3), max_size=3).map(tuple),
)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Draw a schema of one to four tensors, of any types and shapes."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    inputs = draw(st.integers(1, len(names)))
    return Schema(
        inputs={name: draw(SPECS) for name in names[:inputs]},
        targets={name: draw(SPECS) for name in names[inputs:]},
    )


def make_tensors(schema: Schema, samples: int, *, seed: int = 0) -> dict[str, Array]:
    """Make samples of a schema, of any finite values of their types."""
    rng = np.random.default_rng(seed)
    return {name: _values(rng, spec, samples) for name, spec in schema.tensors.items()}


def _values(rng: np.random.Generator, spec: TensorSpec, samples: int) -> Array:
    shape, kind = (samples, *spec.shape), spec.numpy_type
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(kind)
    if kind.kind == "f":
        return rng.normal(0, 100, shape).astype(kind)
    limits = np.iinfo(spec.dtype)
    return rng.integers(limits.min, limits.max, shape, kind.newbyteorder("="), endpoint=True)
