"""Checks of samples that reach the engine, with messages that name the sample."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from omega21.language import _, ngettext
from omega21.protocol.errors import InvalidSamples, PlanConflict
from omega21.protocol.plan import ShardRef
from omega21.protocol.shards import Tensors

Array = NDArray[np.generic]


def check_inline(x: Array, y: Array, *, width: int) -> None:
    """Check an inline batch: x [n, width] finite, y [n] of 0 and 1. Raises InvalidSamples."""
    check_shape(x, width=width)
    check_labels(y, samples=len(x))
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
        finite_values = np.isfinite(x.astype(np.float32, copy=False))
    finite = finite_values.all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        column = int(np.argmin(finite_values[row]))
        raise InvalidSamples(
            _("feature {column} of sample {number} is not a finite number").format(
                column=column, number=row
            ),
            hint=_("remove the sample or replace the value"),
        )


def check_listed(tensors: Tensors, ref: ShardRef, *, run: str, width: int) -> None:
    """Check that a shard is what a plan lists. Raises InvalidSamples, PlanConflict."""
    if "x" not in tensors or "y" not in tensors:
        raise InvalidSamples(
            _("shard {sha256} is listed in a plan and lacks `x` or `y`").format(
                sha256=ref.sha256[:12]
            )
        )
    if len(tensors["x"]) != ref.samples:
        raise PlanConflict(
            _(
                "shard {sha256} has {held} samples; the plan of run {name!r} lists it with {listed}"
            ).format(sha256=ref.sha256[:12], held=len(tensors["x"]), name=run, listed=ref.samples)
        )
    check_shape(tensors["x"], width=width)
    check_labels(tensors["y"], samples=ref.samples)


def check_shape(x: Array, *, width: int) -> None:
    """Check that x is floats [n, width], n > 0. Raises InvalidSamples."""
    if len(x) == 0:
        raise InvalidSamples(_("the batch is empty"), hint=_("send at least one sample"))
    if x.ndim != 2 or x.shape[1] != width:
        got = x.shape[1] if x.ndim == 2 else list(x.shape[1:])
        raise InvalidSamples(
            _("expected {features} features, got {got}, sample {number}").format(
                features=width, got=got, number=0
            )
        )
    if x.dtype.kind != "f":
        raise InvalidSamples(_("features are floats, got {dtype}").format(dtype=x.dtype))


def check_labels(y: Array, *, samples: int) -> None:
    """Check that y is 0 or 1 [samples]. Raises InvalidSamples."""
    if y.shape != (samples,):
        raise InvalidSamples(
            ngettext(
                "{samples} sample needs as many labels, got {shape}",
                "{samples} samples need as many labels, got {shape}",
                samples,
            ).format(samples=samples, shape=list(y.shape))
        )
    if y.dtype.kind not in "fiu":
        raise InvalidSamples(_("labels are numbers, got {dtype}").format(dtype=y.dtype))
    wrong = (y != np.array(0, y.dtype)) & (y != np.array(1, y.dtype))
    if wrong.any():
        row = int(np.argmax(wrong))
        value: Any = y[row].item()
        raise InvalidSamples(
            _("label {label} of sample {number} is neither 0 nor 1").format(label=value, number=row)
        )
