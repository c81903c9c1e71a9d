"""Computations that do not change a run: outputs, scores, a self-test."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from omega21.engine.storage.shards import ShardStore
from omega21.executors.base import Batch, Device, DeviceMemoryExhausted, Executor
from omega21.language import _
from omega21.protocol.errors import OutOfDeviceMemory
from omega21.protocol.legacy import DeviceInfo, Diagnosis, OutputShapes
from omega21.protocol.runs import RunConfig

SAMPLES_AT_A_TIME = 256

FloatArray = NDArray[np.float32]
T = TypeVar("T")


def predict(executor: Executor, shards: ShardStore, names: Sequence[str]) -> dict[str, FloatArray]:
    """Compute the outputs for the samples of shards, in order: name to [n, …]."""

    def one(name: str) -> dict[str, FloatArray]:
        x = _rows(shards, name, "x")
        return _fitting(lambda size: executor.predict(x, micro_batch_size=size))

    parts = [one(name) for name in names]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def evaluate(
    executor: Executor, shards: ShardStore, names: Sequence[str]
) -> tuple[float, FloatArray]:
    """Compute the mean loss and the scores [n] of the samples of shards, in order."""

    def one(name: str) -> tuple[float, FloatArray]:
        x, y = _rows(shards, name, "x"), _rows(shards, name, "y")
        return _fitting(lambda size: executor.evaluate(x, y, micro_batch_size=size))

    parts = [one(name) for name in names]
    scores = np.concatenate([part for _, part in parts])
    return sum(loss * len(part) for loss, part in parts) / len(scores), scores


def diagnose(config: RunConfig, device: Device) -> Diagnosis:
    """Run a step and a prediction of a new model with a run's configuration on the device.

    Raises OutOfDeviceMemory.
    """
    started = time.monotonic()
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, config.model.features)).astype(np.float32)
    try:
        executor = device.make_executor(config)
        executor.step(Batch(x, np.array([0, 1], np.float32)), 1, micro_batch_size=1)
        outputs = executor.predict(x, micro_batch_size=1)
    except DeviceMemoryExhausted as error:
        raise OutOfDeviceMemory(_("the model does not fit in the device's free memory")) from error
    return Diagnosis(
        test_input_shape=list(x.shape),
        outputs_shapes=OutputShapes(
            anomaly=list(outputs["anomaly_prob"].shape),
            dendrites=list(outputs["dendrites"].shape),
            coherence=list(outputs["coherence"].shape),
        ),
        gpu_info=DeviceInfo(cuda=device.is_cuda, device=device.name),
        seconds=time.monotonic() - started,
    )


def _rows(shards: ShardStore, sha256: str, name: str) -> FloatArray:
    return shards.open(sha256).read(name).astype(np.float32, copy=False)


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
