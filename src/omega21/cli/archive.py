"""`omega21 runs export` and `import`: a run as one file."""

from pathlib import Path
from typing import Annotated

import typer

from omega21.cli.options import OutputOptions, RunArgument, Workdir, output_option
from omega21.language import _
from omega21.language.figures import count


def export_run(
    run: RunArgument,
    *,
    file: Annotated[Path | None, output_option("RUN.zip")] = None,
    workdir: Workdir = None,
    output: OutputOptions,
) -> None:
    """Export a run of this machine to one file.

    With its samples, results and checkpoint, and without what belongs to this machine.
    """
    from omega21.cli.ui.output import key_values
    from omega21.cli.ui.output_files import check_output
    from omega21.client.store.archive import export_run
    from omega21.protocol.names import checked_name

    path = file or Path(f"{checked_name(run)}.zip")
    check_output(path)
    made = export_run(checked_name(run), path, workdir=workdir)
    rows = [
        (_("written"), str(path)),
        (_("bytes"), count(made.size)),
        (_("samples"), count(made.samples - made.lacking)),
    ]
    out = output.open()
    if made.lacking:
        out.info(
            _(
                "{lacking} of {samples} samples are not in the run folder, and so not in the "
                "archive; they are generated or read again from their source when needed"
            ).format(lacking=count(made.lacking), samples=count(made.samples))
        )
    document = {"run": run, "file": str(path), "bytes": made.size}
    out.result(
        document | {"samples": made.samples - made.lacking, "lacking": made.lacking},
        key_values(rows),
    )


def import_run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Archive of a run.")],
    *,
    workdir: Workdir = None,
    output: OutputOptions,
) -> None:
    """Import a run from an archive.

    An existing run of the same name is not changed.
    """
    from omega21.cli.ui.output import key_values
    from omega21.client.store.archive import import_run

    folder = import_run(file, workdir=workdir)
    rows = [(_("run"), folder.name), (_("folder"), str(folder))]
    output.open().result({"run": folder.name, "folder": str(folder)}, key_values(rows))
