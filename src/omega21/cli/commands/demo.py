"""`omega21 demo`: starts a server on this machine, trains on it and writes the report."""

from typing import Annotated

import typer

from omega21.cli.options import Quiet, Verbose

_EPOCHS = 3  # so that held-out samples are scored on the way, and there is a curve to look at


def demo(
    *,
    samples: Annotated[
        int, typer.Option("--samples", "--muestras", min=1, help="Number of samples to train.")
    ] = 500,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train on a server on this machine and show the result.

    On a terminal the server runs until Enter is pressed, so that you can open it in a browser. Only
    the report is kept.
    """
    import sys
    import tempfile
    from pathlib import Path

    import platformdirs

    from omega21.cli.training import Job, open_server, save_report, train_segment
    from omega21.cli.ui.output import Output
    from omega21.cli.ui.result import show_outcome
    from omega21.client.request.request import TrainRequest
    from omega21.client.training.options import TrainOptions
    from omega21.language import _

    output = Output(quiet=quiet, verbose=verbose)
    reports = platformdirs.user_data_path("omega21", appauthor=False) / "reports"
    with tempfile.TemporaryDirectory(prefix="omega21-demo-") as folder:
        request = TrainRequest(run="demo", samples=samples, epochs=_EPOCHS)
        job = Job(request=request, options=TrainOptions(workdir=Path(folder)), is_fresh=False)
        with open_server(job, output) as client:
            output.info(_("open it in a browser: {address}/").format(address=client.address))
            done = train_segment(client, job, output)
            show_outcome(done, output)
            reports.mkdir(parents=True, exist_ok=True)
            save_report(job, output, reports / "demo.html")
            if sys.stdin.isatty() and sys.stdout.isatty():
                output.info(
                    _("\nthe server is running at {address}/; press Enter to stop it").format(
                        address=client.address
                    )
                )
                sys.stdin.readline()
