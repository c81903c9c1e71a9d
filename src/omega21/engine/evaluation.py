"""Computations that do not change a run: outputs, scores, a self-test."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from omega21.engine.storage.shards import ShardStore
from omega21.executors.base import (
    Arrays,
    Device,
    DeviceMemoryExhausted,
    EvaluationOutcome,
    Executor,
    batch_size,
)
from omega21.language import _
from omega21.protocol.errors import BodyTooLarge, OutOfDeviceMemory
from omega21.protocol.inference import MAX_OUTPUT_BYTES
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema, TensorSpec

SAMPLES_AT_A_TIME = 256

T = TypeVar("T")


def predict(
    executor: Executor, shards: ShardStore, names: Sequence[str], *, schema: Schema
) -> Arrays:
    """Compute the predictions for the samples of shards, in order: name to [n, …].

    Raises BodyTooLarge as soon as they are too large for a reply, OutOfDeviceMemory.
    """

    def one(name: str) -> Arrays:
        batch = _read(shards, name, schema.inputs)
        return _fitting(lambda size: executor.predict(batch, micro_batch_size=size))

    parts: list[Arrays] = []
    size = 0
    for name in names:
        parts.append(one(name))
        size += sum(array.nbytes for array in parts[-1].values())
        if size > MAX_OUTPUT_BYTES:
            raise BodyTooLarge(
                _("the predictions have more than {most} bytes").format(most=MAX_OUTPUT_BYTES),
                hint=_("predict fewer samples at a time, or return smaller predictions"),
            )
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def evaluate(
    executor: Executor, shards: ShardStore, names: Sequence[str], *, schema: Schema
) -> tuple[int, EvaluationOutcome]:
    """Evaluate the samples of shards, in order; return their number, too."""

    def one(name: str) -> tuple[int, EvaluationOutcome]:
        batch = _read(shards, name, schema.tensors)
        evaluated = _fitting(lambda size: executor.evaluate(batch, micro_batch_size=size))
        return batch_size(batch), evaluated

    parts = [one(name) for name in names]
    total = sum(count for count, _ in parts)
    scores = [part.scores for _, part in parts if part.scores is not None]
    return total, EvaluationOutcome(
        loss=sum(part.loss * count for count, part in parts) / total,
        metrics={
            name: sum(part.metrics[name] * count for count, part in parts) / total
            for name in parts[0][1].metrics
        },
        scores=np.concatenate(scores) if scores else None,
    )


@dataclass(frozen=True)
class SelfTest:
    """A step and a prediction of a new model: shapes, and the seconds that they took."""

    inputs: dict[str, list[int]]
    predictions: dict[str, list[int]]
    seconds: float


def diagnose(config: RunConfig, device: Device) -> SelfTest:
    """Run a step and a prediction of a new model with a run's configuration on the device.

    Raises OutOfDeviceMemory.
    """
    started = time.monotonic()
    schema = config.sample_schema
    batch = {name: _example(spec) for name, spec in schema.tensors.items()}
    inputs = {name: batch[name] for name in schema.inputs}
    try:
        with closing(device.make_executor(config)) as executor:
            executor.step(batch, 1, micro_batch_size=2)
            predictions = executor.predict(inputs, micro_batch_size=2)
    except DeviceMemoryExhausted as error:
        raise OutOfDeviceMemory(_("the model does not fit in the device's free memory")) from error
    return SelfTest(
        inputs={name: list(array.shape) for name, array in inputs.items()},
        predictions={name: list(array.shape) for name, array in predictions.items()},
        seconds=time.monotonic() - started,
    )


def _example(spec: TensorSpec) -> NDArray[np.generic]:
    """Return two samples of a tensor: floats in [0, 1), zeros of other types."""
    shape = (2, *spec.shape)
    if spec.numpy_type.kind != "f":
        return np.zeros(shape, spec.numpy_type)
    return np.random.default_rng(0).random(shape).astype(spec.numpy_type)


def _read(
    shards: ShardStore, sha256: str, tensors: Mapping[str, TensorSpec]
) -> dict[str, NDArray[np.generic]]:
    shard = shards.open(sha256)
    return {
        name: shard.read(name).astype(spec.numpy_type, copy=False) for name, spec in tensors.items()
    }


def _fitting(compute: Callable[[int], T]) -> T:
    """Halve the micro-batch until it fits. Raises OutOfDeviceMemory."""
    size = SAMPLES_AT_A_TIME
    while True:
        try:
            return compute(size)
        except DeviceMemoryExhausted as error:
            if size == 1:
                raise OutOfDeviceMemory(
                    _("one sample does not fit in the device's memory")
                ) from error
            size //= 2
