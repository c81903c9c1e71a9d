"""A server that means harm, against the command line: every field, size, header and file."""

from anyio.to_thread import run_sync

from chaos.stage import Stage
from tests.attacks.harms import at_random
from tests.attacks.hostile import RUN, HostileServer, faults_of, record, run_client

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
    assert not came_through, "\n".join(came_through)
