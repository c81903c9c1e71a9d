"""The device of an engine: it computes in processes, which are started here."""

import importlib.util
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Final

from omega21.executors.base import Batch, DeviceMemory
from omega21.executors.channel import Head
from omega21.executors.launcher import START_SECONDS, Launcher
from omega21.executors.memory import process_bytes
from omega21.executors.options import DeviceOptions
from omega21.executors.process import ExecutorProcess
from omega21.executors.remote import RemoteExecutor
from omega21.models.registry import default_config
from omega21.protocol.legacy import Machine
from omega21.protocol.runs import Environment, Precision, RunConfig
from omega21.protocol.tasks.probe import ProbeFound

_MOST_COUNTS: Final = 256
"""Configurations whose parameters are remembered."""


@dataclass(frozen=True)
class DeviceDescription:
    """What the first process tells of the device and its libraries."""

    name: str
    is_cuda: bool
    threads: int
    precision: Precision
    torch_version: str
    cuda_available: bool
    cpus: int


class ProcessDevice:
    """See `executors.base.Device`.

    A process has one run and ends with it. The first one describes the device, is warmed up, and
    then waits for a run.
    """

    def __init__(self, options: DeviceOptions, launcher: Launcher | None = None) -> None:
        self._options = options
        self._launcher = launcher or Launcher()
        self._guard = threading.Lock()
        self._waiting: list[ExecutorProcess] = []
        self._processes: set[ExecutorProcess] = set()
        self._memory = DeviceMemory()
        self._counts: dict[str, tuple[int, int]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="omega21-device")
        self._first: Future[DeviceDescription] = self._thread.submit(self._start_first)

    def _start_first(self) -> DeviceDescription:
        process, description = self._started()
        with self._guard:
            self._waiting.append(process)
        return description

    def _started(self) -> tuple[ExecutorProcess, DeviceDescription]:
        process = ExecutorProcess(self._launcher, self._options)
        with self._guard:
            self._processes.add(process)
        try:
            head, _arrays = process.receive(timeout=START_SECONDS)
        except BaseException:
            self._end(process)
            raise
        return process, DeviceDescription(**head)

    @property
    def _description(self) -> DeviceDescription:
        return self._first.result()

    def check(self) -> None:
        """See `Device.check`."""
        self._first.result()

    @property
    def name(self) -> str:
        """See `Device.name`."""
        return self._description.name

    @property
    def is_cuda(self) -> bool:
        """See `Device.is_cuda`."""
        return self._description.is_cuda

    @property
    def torch_version(self) -> str:
        """See `Device.torch_version`."""
        return self._description.torch_version

    @property
    def cuda_available(self) -> bool:
        """See `Device.cuda_available`."""
        return self._description.cuda_available

    def make_executor(
        self, config: RunConfig, *, on_output: Callable[[bytes], None] | None = None
    ) -> RemoteExecutor:
        """See `Device.make_executor`."""
        process = self._take()
        process.on_output = on_output or (lambda _lines: None)
        executor = RemoteExecutor(
            process,
            config,
            timeout=self._options.step_timeout,
            release=self._end,
            on_memory=self._note_memory,
        )
        self._note_count(config.model_dump_json(), executor.parameters())
        return executor

    def warm_up(self) -> None:
        """See `Device.warm_up`."""
        process = self._take()
        try:
            config = default_config().model_dump_json()
            process.send({"do": "warm_up", "config": config})
            head, _arrays = process.receive(timeout=START_SECONDS)
        except BaseException:
            self._end(process)
            raise
        self._note_count(config, tuple(head["parameters"]))
        with self._guard:
            self._waiting.append(process)

    def parameters(self, config: RunConfig) -> tuple[int, int]:
        """See `Device.parameters`."""
        key = config.model_dump_json()
        if key not in self._counts:
            head = self._asked({"do": "parameters", "config": key})
            self._note_count(key, tuple(head["parameters"]))
        return self._counts[key]

    def probe(self, config: RunConfig, batch: Batch) -> ProbeFound:
        """See `Device.probe`."""
        head = self._asked(
            {"do": "probe", "config": config.model_dump_json()},
            batch,
            timeout=self._options.step_timeout,
        )
        return ProbeFound.model_validate_json(head["reply"])

    def environment(self, config: RunConfig, *, from_step: int) -> Environment:
        """See `Device.environment`."""
        description = self._description
        precision = description.precision if config.precision == "auto" else config.precision
        return Environment(
            from_step=from_step,
            device=description.name,
            precision=precision,
            deterministic=config.deterministic,
            threads=description.threads,
            torch_version=description.torch_version,
            omega21_version=self._version,
        )

    @cached_property
    def _version(self) -> str:
        return version("omega21")  # it reads and parses a file

    def memory_mb(self) -> float:
        """See `Device.memory_mb`."""
        return self._memory.used / 1e6

    def process_bytes(self) -> int | None:
        """See `Device.process_bytes`."""
        with self._guard:
            pids = [process.pid for process in self._processes if process.is_alive]
        sizes = [process_bytes(), *(process_bytes(pid) for pid in pids)]
        known = [size for size in sizes if size is not None]
        return sum(known) if known else None

    def machine(self, folder: Path) -> Machine:
        """See `Device.machine`."""
        description, memory = self._description, self._memory
        return Machine(
            device=description.name.removeprefix("cuda "),
            device_memory_total=memory.total,
            device_memory_free=memory.free,
            process_memory=self.process_bytes(),
            cpus=description.cpus,
            disk_free=shutil.disk_usage(folder).free,
            clock=time.time(),
        )

    def close(self) -> None:
        """See `Device.close`."""
        self._launcher.close()
        self._thread.shutdown(cancel_futures=True)
        with self._guard:
            processes = list(self._processes)
        for process in processes:
            self._end(process)
        self._launcher.remove_folder()

    def _take(self) -> ExecutorProcess:
        """Return a process without a model: the one that waits, else a new one."""
        self._first.result()
        with self._guard:
            if self._waiting:
                process = self._waiting.pop()
                if process.is_alive:
                    return process
        return self._started()[0]

    def _asked(
        self, head: Head, batch: Batch | None = None, *, timeout: float = START_SECONDS
    ) -> Head:
        """Have one request answered by a process of its own."""
        self._first.result()
        process, _description = self._started()
        try:
            process.send(head, batch)
            return process.receive(timeout=timeout)[0]
        finally:
            self._end(process)

    def _note_count(self, config: str, count: tuple[int, int]) -> None:
        with self._guard:
            while len(self._counts) >= _MOST_COUNTS:
                del self._counts[next(iter(self._counts))]
            self._counts[config] = count

    def _end(self, process: ExecutorProcess) -> None:
        with self._guard:
            self._processes.discard(process)
        process.close()

    def _note_memory(self, memory: DeviceMemory) -> None:
        self._memory = memory


def find_device(options: DeviceOptions) -> ProcessDevice:
    """Start the device's first process.

    Raises ImportError where torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    return ProcessDevice(options)
