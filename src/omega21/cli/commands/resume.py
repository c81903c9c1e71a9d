"""`omega21 resume`: continues an unfinished run, from its folder alone."""

from dataclasses import replace
from typing import Annotated, Final

import typer

from omega21.cli.options import EventOutputOptions, LongServerOptions
from omega21.cli.train_options import FolderOptions, TrackingOptions
from omega21.language import _

EXAMPLES: Final = """
# The newest unfinished run, where it was
omega21 resume
# The same run on another server
omega21 resume hourly --url https://….ngrok-free.app
"""


def resume(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="Name of the run.", show_default="the newest unfinished run"
        ),
    ] = None,
    *,
    server: LongServerOptions,
    tracking: TrackingOptions,
    folder: FolderOptions,
    output: EventOutputOptions,
) -> None:
    """Continue an unfinished run.

    On the server at --url, else on the run's last server, which is started here if it was. A server
    that does not have the run restores it from the checkpoint in the run folder, or computes it
    again from its first step, whichever is faster.
    """
    from omega21.cli.connection import last_address
    from omega21.cli.train_request import make_options
    from omega21.cli.training import Job, train_job
    from omega21.client.training.resume import newest_unfinished, unfinished_request
    from omega21.protocol.names import checked_name

    if run is not None and run.startswith(("http://", "https://")):
        run, server = None, replace(server, address=run)  # no run's name can look like that
    workdir = folder.workdir
    name = newest_unfinished(workdir).run if run is None else checked_name(run)
    request = unfinished_request(name, workdir)
    out = output.open()
    out.info(_("resuming run {name}").format(name=name))
    job = Job(
        request=request,
        is_fresh=False,
        finishing_only=True,
        server=replace(server, address=server.address or last_address(name, workdir)),
        options=make_options(server, folder, tracking=tracking),
        report=tracking.report,
    )
    train_job(job, out)
