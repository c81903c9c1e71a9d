"""The hardware, and the settings that decide a step's bits."""

import os
import random
import shutil
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import torch

from omega21.executors.base import Batch, DeviceOptions
from omega21.executors.memory import process_bytes
from omega21.language import _
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.legacy import Machine
from omega21.protocol.runs import Environment, Precision, RunConfig

_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Hardware:
    """A device and its settings."""

    device: torch.device
    name: str
    threads: int
    options: DeviceOptions

    @classmethod
    def find(cls, options: DeviceOptions) -> Self:
        """Choose the device: CUDA, else MPS, else the CPU. Raises InvalidRequest."""
        # cuBLAS reads this when it is first used; without it deterministic steps raise on CUDA.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        device = _find_device(options.device)
        name = "cpu"
        if device.type == "cuda":
            name = f"cuda {torch.cuda.get_device_name(device)}"
        elif device.type == "mps":
            name = "mps"
        threads = options.threads or _available_cores()
        return cls(device=device, name=name, threads=threads, options=options)

    @property
    def is_cuda(self) -> bool:
        """See `Device.is_cuda`."""
        return self.device.type == "cuda"

    @property
    def shares_cores(self) -> bool:
        """See `Device.shares_cores`."""
        return self.device.type == "cpu"

    @property
    def torch_version(self) -> str:
        """See `Device.torch_version`."""
        return str(torch.__version__)

    @property
    def cuda_available(self) -> bool:
        """See `Device.cuda_available`."""
        return torch.cuda.is_available()

    def precision_for(self, config: RunConfig) -> Precision:
        """Return the precision of a run: its own, else the engine's, else the device's default.

        `auto` is bfloat16 on CUDA devices that have it, float16 (with a scaler) on older ones,
        and float32 elsewhere.
        """
        for asked in (config.precision, self.options.precision):
            if asked != "auto":
                return asked
        if not self.is_cuda:
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"

    def environment(self, config: RunConfig, *, from_step: int) -> Environment:
        """Describe the environment of steps computed here."""
        return Environment(
            from_step=from_step,
            device=self.name,
            precision=self.precision_for(config),
            deterministic=config.deterministic,
            threads=self.threads,
            torch_version=self.torch_version,
            omega21_version=_version(),
        )

    def prepare(self, config: RunConfig) -> None:
        """Configure torch for steps of a run; cheap when nothing changes."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(config.deterministic)
        # Filling new memory only helps to find reads of uninitialised memory, and costs time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = not config.deterministic

    def seed(self, number: int) -> None:
        """Seed the random numbers of one step: torch's on CPU and device, numpy's and Python's.

        `torch.manual_seed` seeds every possible device, and before CUDA is initialised it stores a
        stack trace for later: half a millisecond in each step.
        """
        torch.default_generator.manual_seed(number)
        np.random.seed(number % 2**32)  # noqa: NPY002 - the generator that a user's model may use
        random.seed(number)
        if self.is_cuda:
            torch.cuda.default_generators[self.device.index].manual_seed(number)
        elif self.device.type == "mps":
            torch.mps.manual_seed(number)

    def stage(self, batch: Batch) -> Batch:
        """Copy a batch to pinned memory, from which a CUDA device copies asynchronously."""
        if not self.is_cuda:
            return batch
        return {n: torch.from_numpy(part).pin_memory().numpy() for n, part in batch.items()}

    def memory_mb(self) -> float:
        """Return the device memory in use, in MB; 0 where there is no GPU."""
        if not self.is_cuda:
            return 0.0
        return torch.cuda.memory_allocated(self.device) / 1e6

    def machine(self, folder: Path) -> Machine:
        """Describe this machine's state now: device, memory, the disk of `folder`, the clock."""
        free = total = None
        if self.is_cuda:
            free, total = torch.cuda.mem_get_info(self.device)
        return Machine(
            device=self.name.removeprefix("cuda "),
            device_memory_total=total,
            device_memory_free=free,
            process_memory=process_bytes(),
            cpus=_available_cores(),
            disk_free=shutil.disk_usage(folder).free,
            clock=time.time(),
        )


@cache
def _version() -> str:
    return version("omega21")  # cached: it reads and parses a file


def _find_device(wanted: str) -> torch.device:
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.empty(1, device=wanted).device  # "cuda" gets an index
    except (RuntimeError, AssertionError) as error:
        raise InvalidRequest(
            _("device {wanted!r} is not usable here").format(wanted=wanted),
            hint=_("use auto, cpu, cuda, cuda:N or mps"),
        ) from error
    return device


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def autocast_dtype(precision: Precision) -> torch.dtype:
    """Return the torch type that `precision` computes in."""
    return _DTYPES[precision]
