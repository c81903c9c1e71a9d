"""The seam between what a step is and the device that computes it; knows no torch.

The engine owns order and durability; an executor owns weights, optimizer state and the device. It
is told "this batch, this step" and answers with the result, or raises before anything changed. A
cluster of devices would stand behind the same protocols.

What decides a step's bits: the state before it, the batch, the step's number (its learning rate
and, with the run's seed, its dropout), the size of the micro-batches it is computed in, and the
device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from omega21.protocol.legacy import Machine
from omega21.protocol.runs import Environment, PrecisionAsked, RunConfig

FloatArray = NDArray[np.float32]
Arrays = dict[str, NDArray[np.generic]]


class Batch(NamedTuple):
    """Samples of one step: x float32 [n, width], y float32 [n]."""

    x: FloatArray
    y: FloatArray


class DeviceMemoryExhausted(Exception):
    """A batch, or the micro-batch that was tried, does not fit; nothing has changed."""


class DeviceFailed(Exception):
    """The device computes nothing more in this process: every later call would fail alike."""


@dataclass(frozen=True)
class StepOutcome:
    """What one step did. The summary holds named means over the batch."""

    loss: float
    applied: bool
    skipped_by_scaler: bool
    summary: dict[str, FloatArray]


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Which device computes, and how.

    `device` is `auto`, or a torch device such as `cpu`, `cuda`, `cuda:1`, `mps`. `precision`
    answers for runs that ask for `auto`; itself `auto`, it leaves the choice to the device.
    `threads` is torch's thread count, by default one a core.
    """

    device: str = "auto"
    precision: PrecisionAsked = "auto"
    threads: int | None = None


class Executor(Protocol):
    """Weights and optimizer state of one run, on some device."""

    def step(self, batch: Batch, number: int, *, micro_batch_size: int) -> StepOutcome:
        """Compute step `number` on `batch`, `micro_batch_size` samples at a time, and apply it.

        A step whose loss or gradient norm is not finite changes nothing and says so. Raises
        DeviceMemoryExhausted before anything changed, DeviceFailed.
        """

    def evaluate(
        self, x: FloatArray, y: FloatArray, *, micro_batch_size: int
    ) -> tuple[float, FloatArray]:
        """Return the mean loss and the scores [n] in evaluation mode, changing nothing."""

    def predict(self, x: FloatArray, *, micro_batch_size: int) -> dict[str, FloatArray]:
        """Return the named outputs [n, …] in evaluation mode, changing nothing."""

    def weights(self) -> Arrays:
        """Copy the weights to the CPU."""

    def state(self) -> Arrays:
        """Copy all that later steps depend on to the CPU: weights, optimizer, scaler."""

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what `state` returned. Raises KeyError, RuntimeError for another model's."""


class Device(Protocol):
    """What executors compute on, and how it describes itself."""

    @property
    def name(self) -> str:
        """Name it for people, and for the environment of a step."""

    @property
    def is_cuda(self) -> bool:
        """Whether it is one of CUDA's."""

    @property
    def shares_cores(self) -> bool:
        """Whether it computes on the cores on which batches are read."""

    @property
    def torch_version(self) -> str:
        """The version of torch that computes."""

    @property
    def cuda_available(self) -> bool:
        """Whether this machine has CUDA at all."""

    def make_executor(self, config: RunConfig) -> Executor:
        """Make the executor of a new run. Raises DeviceMemoryExhausted."""

    def prepare(self, config: RunConfig) -> None:
        """Apply a run's settings to this process; cheap when nothing changes."""

    def stage(self, batch: Batch) -> Batch:
        """Bring a batch to where the device takes it from without waiting."""

    def environment(self, config: RunConfig, *, from_step: int) -> Environment:
        """Describe what decides the bits of steps computed here."""

    def parameters(self, config: RunConfig) -> tuple[int, int]:
        """Count the parameters of a run's model: (all, those that are trained)."""

    def memory_mb(self) -> float:
        """Return the device memory in use, in MB; 0 where there is no GPU."""

    def machine(self, folder: Path) -> Machine:
        """Describe this machine as it is now: device, memory, the disk of `folder`, the clock."""
