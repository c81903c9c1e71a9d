"""Processes of the benchmarks: servers, and parts of the measuring that need one of their own."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from omega21.executors.malloc import keep_freed_memory
from omega21.executors.openmp import bound_spinning


@dataclass(frozen=True)
class TwoMachines:
    """The cores of this machine, divided as if the server and the client had one each."""

    far: frozenset[int]
    """The server's, which computes."""
    near: frozenset[int]
    """The client's and the link's."""


def two_machines() -> TwoMachines:
    """Give the client a core of its own; where there is one core, or no saying, all is shared."""
    if sys.platform != "linux":
        cores = range(os.cpu_count() or 1)
    else:
        cores = sorted(os.sched_getaffinity(0))
    return TwoMachines(frozenset(cores[:-1] or cores), frozenset(cores[-1:]))


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Have the threads and processes that are started here stay on some cores. Linux alone can."""
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Served:
    """A server process: where it answers, and who it is."""

    address: str
    port: int
    supervisor: int

    def memory_mb(self) -> float:
        """MB in memory of the process that serves; Linux alone tells."""
        pages = int(Path(f"/proc/{self.worker()}/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize() / 2**20

    def cpu_seconds(self) -> float:
        """CPU time of the process that serves and of those that compute."""
        ticks = 0
        for pid in (self.worker(), *_descendants(self.worker())):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1]
            ticks += sum(map(int, fields.split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def worker(self) -> int:
        """Return the process that serves: the supervisor's child, or itself."""
        return next(iter(_children(self.supervisor)), self.supervisor)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for one in tasks for child in (one / "children").read_text().split()]


def _descendants(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _descendants(child)


@contextmanager
def server(*arguments: str) -> Iterator[Served]:
    """Run a server on loopback over a data folder of its own."""
    environment = {name: text for name, text in os.environ.items() if name != "OMEGA21_TOKEN"}
    command = [sys.executable, "-m", "omega21.server", "--port", "0", "--stop-with-stdin"]
    with (
        tempfile.TemporaryDirectory(prefix="omega21-bench-") as folder,
        Path(folder, "log").open("wb") as log,
        subprocess.Popen(
            [*command, "--data-dir", f"{folder}/data", "--log-level", "error", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().removeprefix("listening on ").strip()
            if not address:
                raise RuntimeError(Path(log.name).read_text(encoding="utf-8"))
            yield Served(address, int(address.rpartition(":")[2]), process.pid)
        finally:
            process.stdin.close()


@contextmanager
def far_server(cores: TwoMachines) -> Iterator[Served]:
    """Run a server on its own machine's cores, which checkpoints only where it has to."""
    threads = str(len(cores.far))
    with ExitStack() as held:
        with on_cores(cores.far):
            served = held.enter_context(server("--checkpoint-seconds", "1e9", "--threads", threads))
        yield served


def run_module(module: str, *arguments: str) -> str:
    """Run `python -m module`, and return what it printed. Raises CalledProcessError."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def set_up_torch() -> None:
    """Compute as the server does: the same threads, memory and deterministic algorithms.

    To be called before anything else imports torch.
    """
    bound_spinning()
    keep_freed_memory()
    import torch  # noqa: PLC0415 - after its threads are set up

    torch.use_deterministic_algorithms(mode=True)
    # Filling fresh memory would only show reads of memory that nobody wrote, and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
