"""The device of an engine: it computes in processes, which are started here."""

import importlib.util
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Final

from omega21.executors.base import Batch, DeviceMemory, DeviceOptions, ExecutorDied
from omega21.executors.memory import process_bytes
from omega21.executors.process import ExecutorProcess
from omega21.executors.remote import RemoteExecutor
from omega21.models.registry import default_config
from omega21.protocol.errors import OmegaError
from omega21.protocol.legacy import Machine
from omega21.protocol.runs import Environment, Precision, RunConfig
from omega21.protocol.tasks.probe import ProbeReply
from omega21.protocol.tasks.task import CodeTask

logger = logging.getLogger(__name__)

_START_SECONDS: Final = 300.0


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

    A process has one run at a time. One whose run was of a built-in task is kept for the next; one
    that had the user's source ends with its run, and meanwhile another is started for the next.
    """

    def __init__(self, options: DeviceOptions) -> None:
        self._options = options
        # The system ends a process with the thread that started it, not with its whole process.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="omega21-executors")
        self._guard = threading.Lock()
        self._idle: list[ExecutorProcess] = []
        self._processes: set[ExecutorProcess] = set()
        self._memory = DeviceMemory()
        self._counts: dict[str, tuple[int, int]] = {}
        self._is_closed = False
        self._first: Future[DeviceDescription] = self._starter.submit(self._start_first)

    def _start_first(self) -> DeviceDescription:
        process, description = self._started()
        with self._guard:
            self._idle.append(process)
        return description

    def _started(self) -> tuple[ExecutorProcess, DeviceDescription]:
        process = ExecutorProcess(self._options)
        with self._guard:
            self._processes.add(process)
        try:
            head, _arrays = process.receive(timeout=_START_SECONDS)
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
        is_reusable = not isinstance(config.task, CodeTask)
        executor = RemoteExecutor(
            process,
            config,
            timeout=self._options.step_timeout,
            release=self._give_back if is_reusable else self._end,
            on_memory=self._note_memory,
        )
        self._counts[config.model_dump_json()] = executor.parameters()
        if not is_reusable:
            self._start_spare()
        return executor

    def warm_up(self) -> None:
        """See `Device.warm_up`."""
        with self._borrowed() as process:
            config = default_config().model_dump_json()
            process.send({"do": "warm_up", "config": config})
            head, _arrays = process.receive(timeout=_START_SECONDS)
            self._counts[config] = tuple(head["parameters"])

    def parameters(self, config: RunConfig) -> tuple[int, int]:
        """See `Device.parameters`."""
        key = config.model_dump_json()
        if key not in self._counts:
            with self._borrowed(keep=not isinstance(config.task, CodeTask)) as process:
                process.send({"do": "parameters", "config": key})
                head, _arrays = process.receive(timeout=_START_SECONDS)
                self._counts[key] = tuple(head["parameters"])
        return self._counts[key]

    def probe(self, config: RunConfig, batch: Batch) -> ProbeReply:
        """See `Device.probe`."""
        with self._borrowed(keep=not isinstance(config.task, CodeTask)) as process:
            process.send({"do": "probe", "config": config.model_dump_json()}, batch)
            head, _arrays = process.receive(timeout=_START_SECONDS)
        return ProbeReply.model_validate_json(head["reply"])

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
        with self._guard:
            self._is_closed = True
            processes = list(self._processes)
        for process in processes:
            self._end(process)
        self._starter.shutdown(cancel_futures=True)

    @contextmanager
    def _borrowed(self, *, keep: bool = True) -> Iterator[ExecutorProcess]:
        process = self._take()
        try:
            yield process
        except ExecutorDied:
            self._end(process)
            raise
        except Exception:
            self._give_back(process) if keep else self._end(process)
            raise
        self._give_back(process) if keep else self._end(process)

    def _take(self) -> ExecutorProcess:
        """Return a process without a model: one that is idle, else a new one."""
        self._first.result()
        # On the thread that starts them, so that one that is being started is waited for.
        return self._starter.submit(self._idle_or_new).result()

    def _idle_or_new(self) -> ExecutorProcess:
        with self._guard:
            while self._idle:
                process = self._idle.pop()
                if process.is_alive:
                    return process
        return self._started()[0]

    def _start_spare(self) -> None:
        """Start a process for the next run, unless one is idle: to load torch takes seconds."""

        def start() -> None:
            with self._guard:
                if self._idle or self._is_closed:
                    return
            try:
                process, _description = self._started()
            except (ExecutorDied, OmegaError, ImportError, RuntimeError) as error:
                logger.warning("no process could be started for the next run: %s", error)
                return
            self._keep(process)

        with self._guard:
            if not self._is_closed:
                self._starter.submit(start)

    def _keep(self, process: ExecutorProcess) -> None:
        """Keep a process for the next run; end it where one is kept already."""
        with self._guard:
            is_kept = not self._idle and not self._is_closed
            if is_kept:
                self._idle.append(process)
        if not is_kept:
            self._end(process)

    def _give_back(self, process: ExecutorProcess) -> None:
        """Keep a process for another run, if it is sound and none is kept yet."""
        if process.is_alive and self._is_cleared(process):
            process.on_output = lambda _lines: None
            self._keep(process)
        else:
            self._end(process)

    def _is_cleared(self, process: ExecutorProcess) -> bool:
        try:
            process.send({"do": "drop"})
            process.receive(timeout=_START_SECONDS)
        except (ExecutorDied, ValueError, RuntimeError):
            return False
        return True

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
