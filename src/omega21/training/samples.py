"""Checks of samples that reach the engine, with messages that name the sample."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from omega21.protocol.errors import InvalidSamples

Array = NDArray[np.generic]


def check_inline(x: Array, y: Array, *, width: int) -> None:
    """Check an inline batch: x [n, width] finite, y [n] of 0 and 1. Raises InvalidSamples."""
    check_shape(x, y, width=width)
    finite = np.isfinite(x.astype(np.float32, copy=False)).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        column = int(np.argmin(np.isfinite(x[row].astype(np.float32, copy=False))))
        raise InvalidSamples(
            f"feature {column} of sample {row} is not a finite number",
            hint="remove the sample or replace the value",
        )


def check_shape(x: Array | None, y: Array | None, *, width: int) -> None:
    """Check shapes and labels of samples: x [n, width], y [n]. Raises InvalidSamples."""
    if x is None or y is None:
        raise InvalidSamples("samples are two tensors, `x` and `y`")
    if len(x) == 0:
        raise InvalidSamples("the batch is empty", hint="send at least one sample")
    if x.ndim != 2 or x.shape[1] != width:
        got = x.shape[1] if x.ndim == 2 else list(x.shape[1:])
        raise InvalidSamples(f"expected {width} features, got {got}, sample 0")
    if y.shape != (len(x),):
        raise InvalidSamples(f"{len(x)} samples need as many labels, got {list(y.shape)}")
    if x.dtype.kind != "f" or y.dtype.kind not in "fiu":
        raise InvalidSamples(f"features are floats and labels numbers, got {x.dtype}, {y.dtype}")
    wrong = (y != np.array(0, y.dtype)) & (y != np.array(1, y.dtype))
    if wrong.any():
        row = int(np.argmax(wrong))
        value: Any = y[row].item()
        raise InvalidSamples(f"label {value} of sample {row} is neither 0 nor 1")
