"""`omega21 report`: a run's report as one HTML file, or as Markdown with images."""

from pathlib import Path
from typing import Annotated

import typer

from omega21.cli.options import NewestRunArgument, OutputOptions, Workdir, output_option
from omega21.cli.report.file import ReportFormat, write_report


def report(
    run: NewestRunArgument = None,
    *,
    kind: Annotated[
        ReportFormat, typer.Option("--format", help="One HTML file, or Markdown with PNG images.")
    ] = "html",
    file: Annotated[
        Path | None,
        output_option("report.html or report.md in the run folder"),
    ] = None,
    workdir: Workdir = None,
    output: OutputOptions,
) -> None:
    """Write a run's report: curves, scores, how to repeat it.

    From the run folder alone; no server is needed.
    """
    from omega21.cli.ui.output import key_values
    from omega21.cli.ui.output_files import check_output
    from omega21.client.run_reader import newest_run
    from omega21.language import _
    from omega21.protocol.names import checked_name

    out = output.open()
    name = newest_run(workdir) if run is None else checked_name(run)
    if file is not None:
        check_output(file)
    path = write_report(name, workdir=workdir, kind=kind, path=file)
    out.result({"run": name, "file": str(path)}, key_values([(_("report"), str(path))]))
