"""`omega21 resume`: goes on with a run that was begun, from its folder alone."""

from typing import Annotated

import typer

from omega21.cli.options import (
    Ca,
    JsonLines,
    Loggers,
    Patience,
    PullCheckpoints,
    Quiet,
    ReportAtEnd,
    TensorBoard,
    Timeout,
    Token,
    TokenFile,
    Url,
    Verbose,
    Workdir,
    pull_policy,
    seconds,
)
from omega21.language import _


def resume(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="The run's name; without one, the newest that is unfinished."
        ),
    ] = None,
    *,
    url: Url = None,
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    logger: Loggers = None,
    tensorboard: TensorBoard = True,
    report: ReportAtEnd = True,
    pull_checkpoints: PullCheckpoints = "auto",
    workdir: Workdir = None,
    patience: Patience = "10m",
    timeout: Timeout = 60,
    json: JsonLines = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Go on with a run that was begun.

    On the server at --url, else on the one it was last on, which is started here if it was. A
    server that does not have the run gets it again: from the checkpoint in the run's folder, or
    computed again from its first step, whichever is the shorter way.
    """
    from omega21.cli.connection import checked_name, last_address
    from omega21.cli.training import Job, chosen_loggers, train_job
    from omega21.cli.ui.output import Output
    from omega21.client.training.resume import newest_unfinished, unfinished_request

    if run is not None and run.startswith(("http://", "https://")):
        run, url = None, run  # no run's name can look like that
    name = newest_unfinished(workdir).run if run is None else checked_name(run)
    order = unfinished_request(name, workdir)
    output = Output(json=json, quiet=quiet, verbose=verbose)
    output.note(_("resuming run {name}").format(name=name))
    job = Job(
        order=order,
        is_fresh=False,
        finishing_only=True,
        address=url or last_address(name, workdir),
        token=token,
        token_file=token_file,
        ca=ca,
        timeout=timeout,
        workdir=workdir,
        patience=seconds(patience, "--patience"),
        pull=pull_policy(pull_checkpoints),
        report=report,
        loggers=chosen_loggers(logger, tensorboard=tensorboard),
    )
    train_job(job, output)
