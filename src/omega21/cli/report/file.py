"""A run's report as a file: one HTML file, or Markdown with images."""

from pathlib import Path
from typing import Literal, TypeAlias

ReportFormat: TypeAlias = Literal["html", "markdown"]


def write_report(
    run: str,
    *,
    workdir: Path | None = None,
    kind: ReportFormat = "html",
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
        suffix = "html" if kind == "html" else "md"
        path = path or stored.path / f"report.{suffix}"
        if kind == "html":
            from omega21.cli.report.html import write_html

            text = write_html(made)
        else:
            from omega21.cli.report.markdown import write_markdown

            text, images = write_markdown(made, path.stem)
            for name, image in images.items():
                write_durably(path.with_name(name), image)
        write_durably(path, text.encode())
    return path
