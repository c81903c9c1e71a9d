"""The hardware, and the settings that decide a step's bits."""

import ctypes
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import torch

from omega21.executors.options import DeviceOptions
from omega21.language import _
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.runs import Precision, PrecisionAsked, RunConfig

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
        """Whether it is a CUDA device."""
        return self.device.type == "cuda"

    def describe(self) -> dict[str, object]:
        """Return the fields of `devices.DeviceDescription`."""
        return {
            "name": self.name,
            "is_cuda": self.is_cuda,
            "threads": self.threads,
            "precision": self.precision_for("auto"),
            "torch_version": str(torch.__version__),
            "cuda_available": torch.cuda.is_available(),
            "cpus": _available_cores(),
        }

    def precision_for(self, asked: PrecisionAsked) -> Precision:
        """Return the precision of a run: its own, else the engine's, else the device's default.

        `auto` is bfloat16 on CUDA devices that have it, float16 (with a scaler) on older ones,
        and float32 elsewhere.
        """
        for choice in (asked, self.options.precision):
            if choice != "auto":
                return choice
        if not self.is_cuda:
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"

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

    def memory(self) -> tuple[int, int | None, int | None]:
        """Return the fields of `DeviceMemory`; total and free are at most a second old."""
        if not self.is_cuda:
            return 0, None, None
        free, total = _memory_info(self.device, int(time.monotonic()))
        return torch.cuda.memory_allocated(self.device), total, free

    def release_memory(self) -> None:
        """Return memory that no tensor uses to the device."""
        if self.is_cuda:
            torch.cuda.empty_cache()

    def register_memory(self, memory: memoryview) -> Callable[[], object]:
        """Pin memory that another process fills, so that the device copies from it by itself.

        Return what unpins it, to be called before it is unmapped.
        """
        if not self.is_cuda:
            return lambda: None
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        runtime = torch.cuda.cudart()
        runtime.cudaHostRegister(address, memory.nbytes, 0)
        return lambda: runtime.cudaHostUnregister(address)


@lru_cache(maxsize=1)
def _memory_info(device: torch.device, _second: int) -> tuple[int, int]:
    return torch.cuda.mem_get_info(device)


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
