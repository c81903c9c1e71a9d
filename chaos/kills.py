"""Processes that are killed: what computes, what serves, the whole server, the client, all."""

import anyio
from anyio.to_thread import run_sync

from chaos.stage import PROXY_FAULTS, Stage
from tests.proxies import random_faults

EXECUTOR_KILLED = "process that computes killed (SIGKILL)"
CHILD_KILLED = "server process killed (SIGKILL)"
SERVER_KILLED = "server and supervisor killed, started again"
CLIENT_KILLED = "client killed and resumed"
KILLED_INLINE = "server process killed during inline batches"
ALL_AT_ONCE = "all at once: "


async def executor_killed(stage: Stage) -> None:
    """Kill what computes the run: in a step, between two, while it is evaluated."""

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.0, within=0.2)
            stage.faults[EXECUTOR_KILLED] += await run_sync(stage.server.kill_executors)

    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", disturb)


async def child_killed(stage: Stage) -> None:
    """Kill the process that serves: in training, while starting, while restoring."""

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.15, within=0.4)
            await run_sync(stage.server.kill_child)
            stage.faults[CHILD_KILLED] += 1

    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", disturb)


async def server_killed(stage: Stage) -> None:
    """Kill supervisor and child, and start them again on the same data folder and port."""

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.15, within=0.4)
            await run_sync(_kill_and_restart, stage)
            stage.faults[SERVER_KILLED] += 1

    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", disturb)


def _kill_and_restart(stage: Stage) -> None:
    stage.server.kill()
    stage.server.restart()


async def client_killed(stage: Stage) -> None:
    """Kill the client: while it starts, uploads, reads results, evaluates."""

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.3, within=0.8)
            if kill_client(stage):
                stage.faults[CLIENT_KILLED] += 1

    while stage.left > 0:
        await stage.train_in_processes(f"run-{len(stage.verdicts)}", disturb)


def kill_client(stage: Stage) -> bool:
    """Kill the client if there is one at this instant."""
    if stage.client is None or stage.client.returncode is not None:
        return False
    stage.client.kill()
    return True


async def killed_inline(stage: Stage) -> None:
    """Kill the child while batches come one by one: their keys have to outlive it."""

    async def disturb() -> None:
        while stage.left > 0:
            await anyio.sleep(stage.rng.random())
            await run_sync(stage.server.kill_child)
            stage.faults[KILLED_INLINE] += 1

    while stage.left > 0:
        await stage.train_batches(f"run-{len(stage.verdicts)}", disturb)


async def link_planned(stage: Stage) -> None:
    """Do harm to the requests of a planned run."""
    stage.proxy.choose = random_faults(stage.seed, share=0.5, kinds=tuple(PROXY_FAULTS))
    while stage.left > 0:
        await stage.train(f"run-{len(stage.verdicts)}", anyio.sleep_forever)


async def link_inline(stage: Stage) -> None:
    """Do harm to the requests of inline batches and feedback."""
    stage.proxy.choose = random_faults(stage.seed + 1, share=0.5, kinds=tuple(PROXY_FAULTS))
    while stage.left > 0:
        await stage.train_batches(f"run-{len(stage.verdicts)}", anyio.sleep_forever)


async def all_at_once(stage: Stage) -> None:
    """Kill client, child and server while the link does harm."""
    stage.proxy.choose = random_faults(stage.seed + 2, share=0.25, kinds=tuple(PROXY_FAULTS))

    async def disturb() -> None:
        while stage.left > 0:
            await stage.random_instant(at_once=0.15, within=0.5)
            victims = (EXECUTOR_KILLED, CHILD_KILLED, SERVER_KILLED, CLIENT_KILLED, CLIENT_KILLED)
            victim = stage.rng.choice(victims)
            if victim == EXECUTOR_KILLED and not await run_sync(stage.server.kill_executors):
                continue
            if victim == CHILD_KILLED:
                await run_sync(stage.server.kill_child)
            elif victim == SERVER_KILLED:
                await run_sync(_kill_and_restart, stage)
            elif victim == CLIENT_KILLED and not kill_client(stage):
                continue
            stage.faults[ALL_AT_ONCE + victim] += 1

    while stage.left > 0:
        await stage.train_in_processes(f"run-{len(stage.verdicts)}", disturb)
