"""`omega21 export`: a run's weights and results as files for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from omega21.cli.options import (
    NewestRunArgument,
    OutputOptions,
    RunArgument,
    ServerOptions,
    Workdir,
    output_option,
)
from omega21.cli.signature import command

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Save a run's weights or results to a file."
)


TableFormat = Literal["csv", "parquet", "jsonl"]


@command(app)
def weights(
    run: RunArgument,
    *,
    file: Annotated[Path | None, output_option("RUN.safetensors")] = None,
    workdir: Workdir = None,
    server: ServerOptions,
    output: OutputOptions,
) -> None:
    """Save a run's weights after its last step to a .safetensors file.

    Without --url, a server is started for a run that was trained on this machine.
    """
    from omega21.cli.connection import server_of_run
    from omega21.cli.ui.output import key_values
    from omega21.cli.ui.output_files import check_output
    from omega21.language import _

    out = output.open()
    path = file or Path(f"{run}.safetensors")
    check_output(path)
    with server_of_run(run, server, workdir=workdir, output=out) as client:
        saved = client.download_weights(run, path)
    rows = [
        (_("written"), str(saved.path)),
        (_("weights"), _("of run {run} after step {step}").format(run=run, step=saved.step)),
        ("sha256", saved.sha256),
    ]
    document = {"run": run, "file": str(saved.path), "step": saved.step, "sha256": saved.sha256}
    out.result(document, key_values(rows))


@command(app)
def results(
    run: NewestRunArgument = None,
    *,
    kind: Annotated[
        TableFormat, typer.Option("--format", help="File format; parquet needs an extra.")
    ] = "csv",
    file: Annotated[Path | None, output_option("RUN-results.FORMAT")] = None,
    workdir: Workdir = None,
    output: OutputOptions,
) -> None:
    """Save a run's results, in its folder here, to a table."""
    from omega21.cli.ui.output import key_values
    from omega21.cli.ui.output_files import check_output
    from omega21.client.run_reader import newest_run, open_stored_run
    from omega21.client.store.tables import write_table
    from omega21.language import _
    from omega21.language.figures import count
    from omega21.protocol.names import checked_name

    out = output.open()
    name = newest_run(workdir) if run is None else checked_name(run)
    path = file or Path(f"{name}-results.{kind}")
    check_output(path)
    with open_stored_run(name, workdir) as stored:
        rows = write_table(stored.results, path, kind=kind)
    shown = key_values([(_("written"), str(path)), (_("rows"), count(rows))])
    out.result({"run": name, "file": str(path), "rows": rows}, shown)
