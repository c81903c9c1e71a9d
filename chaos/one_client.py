"""A client as a process that can be killed: prints the number of each step that it has stored.

python -m chaos.one_client ADDRESS RUN SEED WORKDIR
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from chaos.workload import PATIENCE_SECONDS, QuickClient, order
from omega21.client.events import StepsDone


async def main(arguments: Sequence[str]) -> None:
    """Train the workload to its end."""
    address, run, seed, workdir = arguments
    async with (
        QuickClient(address) as client,
        client.train(
            order(run, int(seed)), workdir=Path(workdir), patience=PATIENCE_SECONDS
        ) as events,
    ):
        async for event in events:
            if isinstance(event, StepsDone):
                print(event.rows[-1].step, flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
