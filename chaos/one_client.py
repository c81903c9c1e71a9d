"""A client as a process that can be killed: prints the number of each step that it has stored.

python -m chaos.one_client ADDRESS RUN SEED WORKDIR
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from chaos.workload import PATIENCE_SECONDS, QuickClient, order
from omega21.client.events import StepsDone
from omega21.client.store.run_folder import read_run_folder, run_folder_path
from omega21.client.training.options import TrainOptions
from omega21.client.training.resume import is_unfinished
from omega21.client.training.session import Training


async def main(arguments: Sequence[str]) -> None:
    """Train the workload to its end, or what an earlier client has left of it."""
    address, run, seed, workdir = arguments
    async with QuickClient(address) as client:
        training = _training(client, run, seed=int(seed), workdir=Path(workdir))
        if training is None:
            return
        async with training as events:
            async for event in events:
                if isinstance(event, StepsDone):
                    print(event.rows[-1].step, flush=True)


def _training(client: QuickClient, run: str, *, seed: int, workdir: Path) -> Training | None:
    """Begin, as `omega21 train`, or go on, as `omega21 resume`; None when nothing is left."""
    path = run_folder_path(run, workdir)
    segments = read_run_folder(path)[1] if (path / "run.json").exists() else 0
    if not segments:
        return client.train(
            order(run, seed), TrainOptions(workdir=workdir, patience=PATIENCE_SECONDS)
        )
    if is_unfinished(run, workdir):
        return client.resume(run, TrainOptions(workdir=workdir, patience=PATIENCE_SECONDS))
    return None


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
