"""Where one scenario plays: a server of its own, a proxy in front of it, and clients through it."""

import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream
from anyio.to_thread import run_sync

from chaos.workload import (
    PATIENCE_SECONDS,
    Outcome,
    QuickClient,
    Verdict,
    compare,
    inline_outcome,
    order,
    planned_outcome,
    totals_of,
    train_inline,
)
from omega21.client.events import StepsDone
from omega21.client.training.options import Pull, TrainOptions
from tests.proxies import Fault, FaultProxy, ProxiedRequest, fault_proxy
from tests.servers import RunningServer, start_server

SERVER_OPTIONS = (
    *("--device", "cpu", "--threads", "1", "--log-level", "warning"),
    *("--checkpoint-seconds", "0.3", "--checkpoint-steps", "10", "--allow-code"),
)

Disturb = Callable[[], Coroutine[None, None, None]]


class Progress:
    """The last step that a client has stored, and a way to wait for the next."""

    def __init__(self) -> None:
        self.step = 0
        self._moved = anyio.Event()

    def begin(self) -> None:
        """Forget the run before."""
        self.step = 0

    def reach(self, step: int) -> None:
        """Note a step, and wake who waits."""
        self.step = step
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    async def next(self) -> None:
        """Wait until a client stores a step that it did not have."""
        await self._moved.wait()


@dataclass
class Stage:
    """One scenario's processes and folders, what was done to them, and what came of it."""

    folder: Path
    seed: int
    times: int
    rng: random.Random
    planned: Outcome
    inline: Outcome
    server: RunningServer
    proxy: FaultProxy
    environment: Mapping[str, str]
    faults: Counter[str] = field(default_factory=Counter)
    verdicts: list[Verdict] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    client: Process | None = None

    @property
    def workdir(self) -> Path:
        """Where the run folders are."""
        return self.folder / "runs"

    @property
    def left(self) -> int:
        """Faults that are still to be done."""
        return self.times - self.faults.total() - sum(self._proxy_faults().values())

    def all_faults(self) -> Counter[str]:
        """What was done, by this scenario and by its proxy."""
        return self.faults + self._proxy_faults()

    def _proxy_faults(self) -> Counter[str]:
        done = self.proxy.faults
        return Counter({PROXY_FAULTS[kind]: done[kind] for kind in PROXY_FAULTS if done[kind]})

    # --- training ---

    async def train(self, run: str, disturb: Disturb, *, pull: Pull = "never") -> None:
        """Train a run with a client in this process while `disturb` does harm; judge what came."""
        client = partial(self._client_here, pull=pull)
        # A server that got a checkpoint knows no result before it; the run folder knows them all.
        await self._train(run, disturb, client, server_has_all=pull == "never")

    async def train_in_processes(self, run: str, disturb: Disturb) -> None:
        """Train a run with clients that `disturb` may kill: the same command, until one ends."""
        await self._train(run, disturb, self._client_processes, server_has_all=True)

    async def train_batches(self, run: str, disturb: Disturb) -> None:
        """Train inline batches while `disturb` does harm; judge the outcome."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(disturb)
            async with QuickClient(self.proxy.address) as client:
                await train_inline(client.api.patient(PATIENCE_SECONDS), run, self.seed)
            tasks.cancel_scope.cancel()
        async with QuickClient(self.server.address) as direct:
            outcome = await inline_outcome(direct.api.patient(PATIENCE_SECONDS), run)
        self.verdicts.append(compare(outcome, self.inline))

    async def _train(
        self,
        run: str,
        disturb: Disturb,
        client: Callable[[str], Awaitable[None]],
        *,
        server_has_all: bool,
    ) -> None:
        self.progress.begin()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(disturb)
            await client(run)
            tasks.cancel_scope.cancel()
        async with QuickClient(self.server.address) as direct:
            patient = direct.api.patient(PATIENCE_SECONDS)
            outcome = await planned_outcome(
                patient, run, self.workdir / run, server_has_all=server_has_all
            )
        undisturbed = self.planned
        if not server_has_all:
            totals = totals_of(undisturbed.steps)
            undisturbed = replace(undisturbed, totals=totals)
        self.verdicts.append(compare(outcome, undisturbed))

    async def _client_here(self, run: str, *, pull: Pull) -> None:
        async with (
            QuickClient(self.proxy.address) as client,
            client.train(
                order(run, self.seed),
                TrainOptions(workdir=self.workdir, patience=PATIENCE_SECONDS, pull=pull),
            ) as events,
        ):
            async for event in events:
                if isinstance(event, StepsDone):
                    self.progress.reach(event.rows[-1].step)

    async def _client_processes(self, run: str) -> None:
        command = [sys.executable, "-m", "chaos.one_client", self.proxy.address, run]
        command += [str(self.seed), str(self.workdir)]
        status: int | None = -signal.SIGKILL
        while status == -signal.SIGKILL:
            environment = {**os.environ, **self.environment}
            with (self.folder / "clients.log").open("ab") as log:
                process = await anyio.open_process(command, stderr=log, env=environment)
            async with process:
                self.client = process
                assert process.stdout is not None
                await self._follow(TextReceiveStream(process.stdout))
                status = await process.wait()
                self.client = None
        if status:
            log_text = (self.folder / "clients.log").read_text(encoding="utf-8")
            raise AssertionError(f"a client ended with status {status}:\n{log_text[-3000:]}")

    async def _follow(self, text: TextReceiveStream) -> None:
        unread = ""
        async for piece in text:
            *lines, unread = (unread + piece).split("\n")
            if lines:
                self.progress.reach(int(lines[-1]))

    # --- the server ---

    async def random_instant(self, *, at_once: float, within: float) -> None:
        """Wait for progress, or in a share of cases not, and then a random time."""
        if self.rng.random() >= at_once:
            await self.progress.next()
        await anyio.sleep(self.rng.random() * within)

    async def replace_server(self) -> RunningServer:
        """Start an empty server at another port; the proxy still leads to the one before."""
        number = len(list(self.folder.glob("data-*.log")))
        return await run_sync(_start, self.folder / f"data-{number}", self.environment)


PROXY_FAULTS: dict[Fault, str] = {
    "drop": "reply lost after the server acted",
    "cut": "reply cut short",
    "reset": "connection reset before the request arrives",
    "short": "request cut short",
    "late": "request delayed",
    "twice": "request sent twice at once",
    "again": "copy of a request, after later ones",
}


def _start(data_dir: Path, environment: Mapping[str, str]) -> RunningServer:
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    return start_server(data_dir, *SERVER_OPTIONS, environment=environment)


def _clear_away(stage: Stage) -> None:
    stage.server.kill()
    for data in stage.folder.glob("data-*/"):
        shutil.rmtree(data)


def no_fault(_: ProxiedRequest) -> Fault:
    """Let every request through."""
    return "none"


@asynccontextmanager
async def set_stage(
    folder: Path,
    *,
    seed: int,
    times: int,
    undisturbed: tuple[Outcome, Outcome],
    environment: Mapping[str, str] | None = None,
    data_dir: Path | None = None,
) -> AsyncIterator[Stage]:
    """Start a server and a proxy, and end them and remove their data when the scenario is over."""
    extra = environment or {}
    server = await run_sync(_start, data_dir or folder / "data-0", extra)
    async with fault_proxy(server.port, no_fault) as proxy:
        stage = Stage(
            folder=folder,
            seed=seed,
            times=times,
            rng=random.Random(f"{seed} {folder.name}"),
            planned=undisturbed[0],
            inline=undisturbed[1],
            server=server,
            proxy=proxy,
            environment=extra,
        )
        try:
            yield stage
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(_clear_away, stage)


async def undisturbed_outcomes(folder: Path, seed: int) -> tuple[Outcome, Outcome]:
    """Train the planned and the inline workload on a server that nobody disturbs."""
    server = await run_sync(_start, folder / "data", {})
    try:
        async with QuickClient(server.address) as client:
            async with client.train(order("calm", seed), TrainOptions(workdir=folder)) as events:
                async for _ in events:
                    pass
            planned = await planned_outcome(client.api, "calm", folder / "calm")
            await train_inline(client.api, "calm-inline", seed)
            return planned, await inline_outcome(client.api, "calm-inline")
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(server.kill)
