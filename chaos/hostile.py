"""A server that means harm, against the command line: every field, size, header and file."""

from itertools import islice

from anyio.to_thread import run_sync

from chaos.stage import Stage
from tests.attacks.harms import at_random
from tests.attacks.hostile import RUN, HostileServer, faults_of, record, run_client
from tests.attacks.hostile_proxy import TRAIN, HostileProxy, training_harms

HARMED = "the server's reply made wrong, huge, slow or escaped"


async def hostile_server(stage: Stage) -> None:
    """Train a run, then let a server that knows its answers harm one command after the other.

    Raises AssertionError, naming each harm that came through.
    """

    async def leave_alone() -> None:
        return

    await stage.train(RUN, leave_alone, pull="end")
    recorded = await run_sync(record, stage.server.address, RUN)
    came_through: list[str] = []
    with HostileServer(recorded).running() as server:
        for number, harm in enumerate(at_random(recorded, seed=stage.seed, times=stage.times)):
            folder = stage.folder / f"harm-{number}"
            folder.mkdir()
            server.harm = harm
            ended = await run_sync(run_client, harm.command, server, folder)
            stage.faults[HARMED] += 1
            came_through += [f"{harm}: {fault}" for fault in faults_of(ended)]
    came_through += await run_sync(_harm_trainings, stage)
    assert not came_through, "\n".join(came_through)


def _harm_trainings(stage: Stage) -> list[str]:
    """Train through a server that makes fields wrong; return what came through."""
    came_through: list[str] = []
    proxy = HostileProxy(stage.server.address)
    with proxy.running():
        calm = run_client(TRAIN, proxy, stage.folder, run="calm")
        came_through += faults_of(calm)
        harms = training_harms(proxy, seed=stage.seed)
        for number, harm in enumerate(islice(harms, stage.times)):
            folder = stage.folder / f"training-{number}"
            folder.mkdir()
            proxy.harm = harm
            ended = run_client(TRAIN, proxy, folder, run=f"training-{number}")
            stage.faults[HARMED] += 1
            came_through += [f"{harm}: {fault}" for fault in faults_of(ended)]
    return came_through
