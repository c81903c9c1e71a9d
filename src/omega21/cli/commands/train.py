"""`omega21 train`: trains on a server and shows the result."""

from dataclasses import replace
from typing import Annotated, Final

import typer

from omega21.cli.options import EventOutputOptions
from omega21.cli.train_options import (
    DataOptions,
    FolderOptions,
    ModelOptions,
    OptimizerOptions,
    TrackingOptions,
    TrainingOptions,
    TrainServerOptions,
)
from omega21.cli.values import seconds

EXAMPLES: Final = """
# On the server used last, or else on this machine
omega21 train
# On a named server, with further samples in the same run each hour
omega21 train https://….ngrok-free.app --run hourly --every 1h
# Samples of a file, ten times, in batches of 256
omega21 train --data samples.npz --epochs 10 --batch-size 256
# A model of your own, on a server that allows it (serve --allow-code)
omega21 train --model net.py:build --set hidden=256 --data samples.npz --loss cross_entropy
"""


def train(
    *,
    data: DataOptions,
    training: TrainingOptions,
    optimizer: OptimizerOptions,
    model: ModelOptions,
    server: TrainServerOptions,
    tracking: TrackingOptions,
    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics",
            "--metricas",
            rich_help_panel=TrackingOptions.panel,
            help="Print the run's metrics at the end.",
        ),
    ] = False,
    folder: FolderOptions,
    output: EventOutputOptions,
) -> None:
    """Train on a server and show the result.

    The run is kept in a folder on this machine. After an interruption, `omega21 resume` continues
    where it stopped: no sample is trained twice.
    """
    from omega21.cli.connection import address_to_train
    from omega21.cli.train_request import make_options, make_request
    from omega21.cli.training import Job, show_code, train_job
    from omega21.language import _

    request = make_request(data, training, optimizer=optimizer, model=model)
    out = output.open()
    show_code(request, out)
    where = address_to_train(request.run, server, folder.workdir)
    if server.address is None and where is not None:
        out.info(
            _("no address given: the server used last, {address} (--local: this machine)").format(
                address=where
            )
        )
    job = Job(
        request=request,
        is_fresh=training.run is None,
        server=replace(server, address=where),
        options=make_options(server, folder, tracking=tracking),
        report=tracking.report,
        every=None if training.every is None else seconds(training.every, "--every", least=1),
        diagnose=server.diagnose,
        metrics=metrics,
    )
    train_job(job, out)
