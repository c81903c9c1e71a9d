"""`omega21 report`: a run's report as one HTML file, or as Markdown with images."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from omega21.cli.options import NewestRunArgument, OutputOptions, Workdir, output_option


class Format(Enum):
    """What a report is written as."""

    HTML = "html"
    MARKDOWN = "markdown"


def report(
    run: NewestRunArgument = None,
    *,
    kind: Annotated[
        Format, typer.Option("--format", help="One HTML file, or Markdown with PNG images.")
    ] = Format.HTML,
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
    from omega21.cli.connection import checked_name
    from omega21.cli.ui.output import facts
    from omega21.cli.ui.output_files import check_output
    from omega21.client.run_reader import newest_run
    from omega21.language import _

    out = output.open()
    name = newest_run(workdir) if run is None else checked_name(run)
    if file is not None:
        check_output(file)
    path = write_report(name, workdir=workdir, kind=kind, path=file)
    out.result({"run": name, "file": str(path)}, facts([(_("report"), str(path))]))


def write_report(
    run: str,
    *,
    workdir: Path | None = None,
    kind: Format = Format.HTML,
    path: Path | None = None,
    run_is_kept: bool = True,
) -> Path:
    """Write a run's report, whole or not at all, and return where it is.

    Raises UnknownRun when the run is not on this machine.
    """
    from omega21.cli.report.content import make_report
    from omega21.client.run_reader import open_stored_run
    from omega21.data.durable import write_durably

    with open_stored_run(run, workdir) as stored:
        made = make_report(stored, run_is_kept=run_is_kept)
        suffix = "html" if kind is Format.HTML else "md"
        path = path or stored.path / f"report.{suffix}"
        if kind is Format.HTML:
            from omega21.cli.report.html import write_html

            text = write_html(made)
        else:
            from omega21.cli.report.markdown import write_markdown

            text, images = write_markdown(made, path.stem)
            for name, image in images.items():
                write_durably(path.with_name(name), image)
        write_durably(path, text.encode())
    return path
