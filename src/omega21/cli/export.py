"""`omega21 export`: saves what a run has learned."""

from pathlib import Path
from typing import Annotated

import typer

from omega21.cli.options import (
    Ca,
    Json,
    Quiet,
    RunArgument,
    Timeout,
    Token,
    TokenFile,
    Url,
    Verbose,
    Workdir,
)


def export(
    run: RunArgument,
    *,
    weights: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Write the weights after the last step to a .safetensors file."
        ),
    ],
    url: Url = None,
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 60,
    workdir: Workdir = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Save a run's weights to a file.

    Without --url, a server is started for a run that was trained on this machine.
    """
    from omega21.cli.connection import server_of_run
    from omega21.cli.output import Output, facts

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with server_of_run(
        run,
        address=url,
        token=token,
        token_file=token_file,
        ca=ca,
        timeout=timeout,
        workdir=workdir,
        output=output,
    ) as client:
        saved = client.download_weights(run, weights)
    rows = [
        ("written", str(saved.path)),
        ("weights", f"of run {run} after step {saved.step}"),
        ("sha256", saved.sha256),
    ]
    document = {"run": run, "file": str(saved.path), "step": saved.step, "sha256": saved.sha256}
    output.result(document, facts(rows))
