"""Checks of samples that reach the engine, with messages that name the tensor or the sample."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omega21.data.schema import check_stored
from omega21.engine.storage.shards import Shard
from omega21.language import _, ngettext
from omega21.models.registry import value_check
from omega21.protocol.errors import InvalidSamples, PlanConflict
from omega21.protocol.plan import Segment, ShardRef
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema
from omega21.protocol.shards import Tensors

Array = NDArray[np.generic]


def check_inline(x: Array, y: Array, *, schema: Schema) -> None:
    """Check an inline batch of a run: x [n, width] finite, y [n] of 0 and 1.

    Raises InvalidSamples, also for a run whose samples are other tensors than these two.
    """
    check_shape(x, width=_inline_width(schema))
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


def _inline_width(schema: Schema) -> int:
    x, y = schema.inputs.get("x"), schema.targets.get("y")
    specs = (x, y)
    if len(schema.tensors) != 2 or any(s is None or s.dtype != "float32" for s in specs):
        x = None
    if x is None or len(x.shape) != 1 or y is None or y.shape:
        raise InvalidSamples(
            _("the samples of this run are not features x and a label y"),
            hint=_("train it with `omega21 train` instead of single batches"),
        )
    return x.shape[0]


def check_listed(
    tensors: Tensors, ref: ShardRef, *, run: str, segment: Segment, config: RunConfig
) -> None:
    """Check that an uploaded shard is what a segment lists. Raises InvalidSamples, PlanConflict."""
    schema = config.sample_schema
    _check_count(len(next(iter(tensors.values()))), ref, run=run)
    with _naming(ref.sha256):
        check_stored(tensors, schema.tensors, schema, samples_type=segment.samples_type)
        _check_targets({name: tensors[name] for name in schema.targets}, config)


def check_listed_on_disk(
    shard: Shard, ref: ShardRef, *, run: str, segment: Segment, config: RunConfig
) -> None:
    """Check a shard that is here already as `check_listed` does; inputs are not read."""
    _check_count(shard.samples, ref, run=run)
    with _naming(ref.sha256):
        schema = config.sample_schema
        check_stored(shard.spans, schema.tensors, schema, samples_type=segment.samples_type)
        _check_targets_on_disk(shard, config)


def check_to_compute(shard: Shard, sha256: str, *, config: RunConfig, labelled: bool) -> None:
    """Check that outputs, or with `labelled` scores, can be computed. Raises InvalidSamples."""
    schema = config.sample_schema
    with _naming(sha256):
        specs = schema.tensors if labelled else schema.inputs
        check_stored(shard.spans, specs, schema, samples_type="float16")
        if labelled:
            _check_targets_on_disk(shard, config)


def _check_count(held: int, ref: ShardRef, *, run: str) -> None:
    if held != ref.samples:
        raise PlanConflict(
            _(
                "shard {sha256} has {held} samples; the plan of run {name!r} lists it with {listed}"
            ).format(sha256=ref.sha256[:12], held=held, name=run, listed=ref.samples)
        )


def _check_targets_on_disk(shard: Shard, config: RunConfig) -> None:
    if value_check(config.task) is not None:
        targets = config.sample_schema.targets
        _check_targets({name: shard.read(name) for name in targets}, config)


def _check_targets(targets: Tensors, config: RunConfig) -> None:
    """Check the targets' values where the kind of task asks for it; inputs may be NaN."""
    check = value_check(config.task)
    invalid = check(targets) if check is not None else None
    if invalid is not None:
        position, what = invalid
        raise InvalidSamples(_("{what}, sample {number}").format(what=what, number=position))


@contextmanager
def _naming(sha256: str) -> Iterator[None]:
    try:
        yield
    except InvalidSamples as error:
        raise InvalidSamples(
            _("shard {sha256}: {reason}").format(sha256=sha256[:12], reason=error.message),
            hint=error.hint,
        ) from error


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
