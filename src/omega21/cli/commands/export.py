"""`omega21 export`: what a run has learned and what it measured, as files for other programs."""

from enum import Enum
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

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Save a run's weights or results to a file."
)


class Format(Enum):
    """What results are written as."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


@app.command()
def weights(
    run: RunArgument,
    *,
    output_path: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where they go: RUN.safetensors here."),
    ] = None,
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
    """Save a run's weights after its last step to a .safetensors file.

    Without --url, a server is started for a run that was trained on this machine.
    """
    from omega21.cli.connection import server_of_run
    from omega21.cli.ui.output import Output, facts
    from omega21.cli.ui.output_files import check_output
    from omega21.language import _

    output = Output(json=json, quiet=quiet, verbose=verbose)
    path = output_path or Path(f"{run}.safetensors")
    check_output(path)
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
        saved = client.download_weights(run, path)
    rows = [
        (_("written"), str(saved.path)),
        (_("weights"), _("of run {run} after step {step}").format(run=run, step=saved.step)),
        ("sha256", saved.sha256),
    ]
    document = {"run": run, "file": str(saved.path), "step": saved.step, "sha256": saved.sha256}
    output.result(document, facts(rows))


@app.command()
def results(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="The run's name; without one, the newest on this machine."
        ),
    ] = None,
    *,
    kind: Annotated[
        Format, typer.Option("--format", help="What the file is; parquet needs an extra.")
    ] = Format.CSV,
    output_path: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where it goes: RUN-results.FORMAT here."
        ),
    ] = None,
    workdir: Workdir = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Save a run's results, in its folder here, to a table."""
    from omega21.cli.connection import checked_name
    from omega21.cli.ui.output import Output, facts
    from omega21.cli.ui.output_files import check_output
    from omega21.client.run_reader import newest_run, open_stored_run
    from omega21.client.store.tables import write_table
    from omega21.language import _
    from omega21.language.figures import count

    output = Output(json=json, quiet=quiet, verbose=verbose)
    name = newest_run(workdir) if run is None else checked_name(run)
    path = output_path or Path(f"{name}-results.{kind.value}")
    check_output(path)
    with open_stored_run(name, workdir) as stored:
        rows = write_table(stored.results, path, kind=kind.value)
    shown = facts([(_("written"), str(path)), (_("rows"), count(rows))])
    output.result({"run": name, "file": str(path), "rows": rows}, shown)
