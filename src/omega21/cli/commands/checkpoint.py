"""`omega21 checkpoint`: downloads checkpoints of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omega21.cli.options import (
    NewestRunArgument,
    OutputOptions,
    ServerOptions,
    Workdir,
    output_option,
)
from omega21.cli.signature import command
from omega21.language import _
from omega21.language.figures import count

if TYPE_CHECKING:
    from omega21.client.sync import Client

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Download checkpoints.")


@app.callback()
def checkpoint() -> None:
    """Download checkpoints of runs to this machine."""


@command(app)
def pull(
    run: NewestRunArgument = None,
    *,
    weights: Annotated[
        bool, typer.Option("--weights", help="Download the weights only, a third of the bytes.")
    ] = False,
    file: Annotated[
        Path | None,
        output_option("in the run folder, or RUN-weights.safetensors with --weights"),
    ] = None,
    workdir: Workdir = None,
    server: ServerOptions,
    output: OutputOptions,
) -> None:
    """Download the newest checkpoint of a run.

    All that later steps depend on, about 144 MB for the default model, or with --weights the
    weights after the last step. An interrupted download is continued by the same command.
    """
    from omega21.cli.connection import server_last_used
    from omega21.cli.ui.output import key_values
    from omega21.client.store.run_folder import list_run_folders
    from omega21.protocol.errors import UnknownRun
    from omega21.protocol.names import checked_name

    name = run
    if name is None:
        here = list_run_folders(workdir)
        if not here:
            raise UnknownRun(
                _("there is no run on this machine"), hint=_("name one, and its server")
            )
        name = here[0].run
    name = checked_name(name)
    out = output.open()
    with server_last_used(name, server, workdir=workdir, output=out) as client:
        out.info(_("run {run} on {address}").format(run=name, address=client.address))
        if weights:
            saved = client.download_weights(name, file or Path(f"{name}-weights.safetensors"))
            path, step, sha256 = saved.path, saved.step, saved.sha256
        else:
            path, step, sha256 = _pull_full(client, name, file=file, workdir=workdir)
    part = "weights" if weights else "full"
    document = {"run": name, "part": part, "file": str(path), "step": step, "sha256": sha256}
    rows = [
        (_("written"), str(path)),
        (
            _("weights") if weights else _("checkpoint"),
            _("of run {run} after step {step}").format(run=name, step=count(step)),
        ),
        ("sha256", sha256),
    ]
    out.result(document, key_values(rows))


def _pull_full(
    client: "Client", run: str, *, file: Path | None, workdir: Path | None
) -> tuple[Path, int, str]:
    """Download a checkpoint to the run's folder, which is locked, or to a file."""
    from omega21.client.store.checkpoints import checkpoint_folder
    from omega21.client.store.run_folder import RunFolder, run_folder_path
    from omega21.data.durable import put_in_place

    if file is not None:
        # Its own folder beside the file, which a broken download is found in by the next try.
        folder = file.with_name(f".{file.name}.pulling")
        held = client.pull_checkpoint(run, folder)
        put_in_place(held.path, file)
        held.path.with_suffix(".sha256").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
        return file, held.step, held.sha256
    path = run_folder_path(run, workdir)
    with RunFolder.open(path) as opened:
        held = client.pull_checkpoint(run, checkpoint_folder(path))
        opened.note("pulled", step=held.step, sha256=held.sha256)
    return held.path, held.step, held.sha256
