"""The protocols of executors and devices; imports no torch.

The engine owns order and durability; an executor owns weights, optimizer state and the device. It
gets a batch and a step number and returns the result, or raises before anything has changed. A
cluster of devices can implement the same protocols.

What decides a step's bits: the state before it, the batch, the step's number (its learning rate
and, with the run's seed, its dropout), the size of the micro-batches it is computed in, and the
device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from omega21.protocol.legacy import Machine
from omega21.protocol.runs import Environment, RunConfig
from omega21.protocol.tasks.probe import ProbeFound

FloatArray = NDArray[np.float32]
Arrays = dict[str, NDArray[np.generic]]

Batch = Mapping[str, NDArray[np.generic]]
"""The tensors of a batch by the schema's names, each [n, …]; n is the same, and at least 1."""


def batch_size(batch: Batch) -> int:
    """Return the number of samples in a batch."""
    return len(next(iter(batch.values())))


class DeviceMemoryExhausted(Exception):
    """The batch or micro-batch does not fit in the device's memory; nothing has changed."""


class DeviceFailed(Exception):
    """The device or the state on it failed: what follows needs another process and a restore."""


class ExecutorDied(Exception):
    """The process that computes has ended, or was ended: `how`, and its last lines of output."""

    def __init__(self, how: str, last_lines: str) -> None:
        super().__init__(how)
        self.how = how
        self.last_lines = last_lines


class StepDropped(Exception):
    """The step was not computed, since the one before it was not."""


@dataclass(frozen=True)
class StepOutcome:
    """The outcome of one step; metrics and vectors are means over the batch."""

    loss: float
    applied: bool
    skipped_by_scaler: bool
    metrics: dict[str, float]
    vectors: dict[str, FloatArray]


@dataclass(frozen=True)
class EvaluationOutcome:
    """Means over a batch in evaluation mode, and the scores [n] of a task that has them."""

    loss: float
    metrics: dict[str, float]
    scores: FloatArray | None


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of the device in bytes: used by this engine, in all, free; None without a GPU."""

    used: int = 0
    total: int | None = None
    free: int | None = None


class Computation(Protocol):
    """Weights and optimizer state of one run, on some device.

    Each method raises DeviceFailed where the state is of no use any more, TaskFailed for an error
    in the user's source.
    """

    @property
    def samples_mix(self) -> bool:
        """Whether a sample's outputs may depend on the others of its batch."""

    def parameters(self) -> tuple[int, int]:
        """Count the model's parameters: (all, those that are trained)."""

    def step(self, batch: Batch, number: int, *, micro_batch_size: int) -> StepOutcome:
        """Compute step `number` on `batch`, `micro_batch_size` samples at a time, and apply it.

        A step whose loss or gradient norm is not finite changes nothing and says so. Raises
        DeviceMemoryExhausted before anything changed.
        """

    def evaluate(self, batch: Batch, *, micro_batch_size: int) -> EvaluationOutcome:
        """Return loss, metrics and scores in evaluation mode, changing nothing."""

    def predict(self, batch: Batch, *, micro_batch_size: int) -> Arrays:
        """Return the named predictions [n, …] for inputs in evaluation mode, changing nothing."""

    def weights(self) -> Arrays:
        """Copy the weights to the CPU."""

    def state(self) -> Arrays:
        """Copy everything that later steps depend on to the CPU: weights, optimizer, scaler."""

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Load what `state` returned. Raises KeyError or RuntimeError for another model's state."""


class Executor(Computation, Protocol):
    """A computation somewhere else. Each method raises ExecutorDied where that has ended.

    One step may be begun while another is under way: it is computed right after it.
    """

    @property
    def steps_under_way(self) -> int:
        """Steps that were begun and not ended."""

    def begin_step(self, batch: Batch, number: int, *, micro_batch_size: int) -> None:
        """Start to compute a step; see `step`."""

    def fits_beside(self, batch: Batch) -> bool:
        """Whether a step on this batch may be begun while another is under way."""

    def end_step(self) -> StepOutcome:
        """Wait for the oldest step under way.

        Raises what `step` raises; a step begun behind it is then dropped, and its `end_step`
        raises StepDropped.
        """

    def close(self) -> None:
        """Free the device; nothing else may be called then. A second call does nothing."""


class Device(Protocol):
    """A device on which executors compute. Thread-safe."""

    def check(self) -> None:
        """Wait until the device is known: everything else here waits for that.

        Raises InvalidRequest for one that is not here, ImportError where torch cannot be loaded.
        """

    @property
    def name(self) -> str:
        """The device's name, for people and for the environment of a step."""

    @property
    def is_cuda(self) -> bool:
        """Whether it is a CUDA device."""

    @property
    def torch_version(self) -> str:
        """The version of torch."""

    @property
    def cuda_available(self) -> bool:
        """Whether this machine has CUDA."""

    def make_executor(
        self, config: RunConfig, *, on_output: Callable[[bytes], None] | None = None
    ) -> Executor:
        """Create the executor of a new run; `on_output` gets lines that the model prints.

        Raises DeviceMemoryExhausted, TaskFailed, ExecutorDied.
        """

    def warm_up(self) -> None:
        """Compute a step of a small model, so that no later one waits for the device.

        Raises DeviceMemoryExhausted, and InvalidRequest for a device that is not here.
        """

    def environment(self, config: RunConfig, *, from_step: int) -> Environment:
        """Describe the environment of steps computed here from `from_step` on."""

    def probe(self, config: RunConfig, batch: Batch) -> ProbeFound:
        """Build a run's model and train a batch of a few samples, to find what would fail later.

        Raises TaskFailed, which names file and line, DeviceMemoryExhausted, ExecutorDied.
        """

    def parameters(self, config: RunConfig) -> tuple[int, int]:
        """Count the parameters of a run's model: (all, those that are trained)."""

    def memory_mb(self) -> float:
        """Return the device memory in use, in MB; 0 where there is no GPU."""

    def process_bytes(self) -> int | None:
        """Return the resident memory of the server and of what computes; None if unknown."""

    def machine(self, folder: Path) -> Machine:
        """Describe this machine's state now: device, memory, the disk of `folder`, the clock."""

    def close(self) -> None:
        """End all that computes."""
