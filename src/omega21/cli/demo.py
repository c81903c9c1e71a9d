"""`omega21 demo`: a server on this machine, a training against it, and the report."""

from typing import Annotated

import typer

from omega21.cli.options import Quiet, Verbose


def demo(
    *,
    samples: Annotated[
        int, typer.Option("--samples", "--muestras", min=1, help="Samples to train.")
    ] = 500,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train against a server on this machine, and show the result.

    On a terminal the server stays until Enter, so that you can look around; nothing is kept.
    """
    import sys
    import tempfile
    from pathlib import Path

    from omega21.cli.outcome import show_outcome
    from omega21.cli.output import Output
    from omega21.cli.training import Job, open_server, train_segment
    from omega21.client.orders import TrainOrder

    output = Output(quiet=quiet, verbose=verbose)
    with tempfile.TemporaryDirectory(prefix="omega21-demo-") as folder:
        order = TrainOrder(run="demo", samples=samples)
        job = Job(order=order, is_fresh=False, workdir=Path(folder))
        with open_server(job, output) as client:
            done = train_segment(client, job, output)
            show_outcome(done, output)
            if sys.stdin.isatty() and sys.stdout.isatty():
                output.note(f"\nthe server is at {client.address} (its calls: /docs)")
                output.note("press Enter to stop it")
                sys.stdin.readline()
