"""`omega21 runs`: the runs of a server, or those kept on this machine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from omega21.cli import archive
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

if TYPE_CHECKING:
    from omega21.client.folder import RunRecord
    from omega21.protocol.runs import RunState, RunSummary

app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def runs(
    context: typer.Context,
    *,
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
    """List and manage runs.

    Those of a server with --url, else those kept on this machine.
    """
    if context.invoked_subcommand is None:
        list_runs(
            url=url,
            token=token,
            token_file=token_file,
            ca=ca,
            timeout=timeout,
            workdir=workdir,
            json=json,
            quiet=quiet,
            verbose=verbose,
        )
        return
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            command = f"omega21 runs {context.invoked_subcommand}"
            raise typer.BadParameter(f"it belongs after {command!r}", param_hint=f"--{name}")


@app.command("list")
def list_runs(
    *,
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
    """List runs.

    Those of a server with --url, by name; else those kept on this machine, newest first.
    """
    from omega21.cli.connection import connect
    from omega21.cli.output import Output, listing
    from omega21.client.folder import list_run_folders

    output = Output(json=json, quiet=quiet, verbose=verbose)
    if url is not None:
        with connect(
            url, token=token, token_file=token_file, ca=ca, timeout=timeout, output=output
        ) as client:
            there = client.runs()
        table = listing(("run", "state", "step", "target", "durable"), map(_server_row, there))
        output.result({"runs": [run.model_dump(mode="json") for run in there]}, table)
        return
    here = list_run_folders(workdir)
    table = listing(("run", "made", "segments trained", "server"), map(_folder_row, here))
    output.result({"runs": [run.model_dump(mode="json") for run in here]}, table)


@app.command()
def show(
    run: RunArgument,
    *,
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
    """Show a run.

    One of a server with --url, else one kept on this machine.
    """
    from omega21.cli.connection import checked_name, connect
    from omega21.cli.output import Output, facts
    from omega21.client.folder import list_run_folders, run_folder_path
    from omega21.protocol.errors import UnknownRun

    output = Output(json=json, quiet=quiet, verbose=verbose)
    if url is not None:
        with connect(
            url, token=token, token_file=token_file, ca=ca, timeout=timeout, output=output
        ) as client:
            state = client.run_state(run)
        output.result(state.model_dump(mode="json"), facts(_state_rows(state)))
        return
    path = run_folder_path(checked_name(run), workdir)
    found = [record for record in list_run_folders(workdir) if record.run == run]
    if not found:
        raise UnknownRun(
            f"there is no run {run!r} on this machine: {path}",
            hint="for a run on a server, give its address with --url or COLAB_SERVER_URL",
        )
    rows = [*_record_rows(found[0]), ("folder", str(path))]
    output.result(found[0].model_dump(mode="json"), facts(rows))


@app.command()
def pause(
    run: RunArgument,
    *,
    url: Url = None,
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 60,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Stop a run on a server after the step under way."""
    from omega21.cli.connection import connect
    from omega21.cli.output import Output

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with connect(
        url, token=token, token_file=token_file, ca=ca, timeout=timeout, output=output
    ) as client:
        position = client.pause(run)
    output.result(position.model_dump(mode="json"), _position(position))


@app.command()
def unpause(
    run: RunArgument,
    *,
    url: Url = None,
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 60,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Let a paused run on a server go on."""
    from omega21.cli.connection import connect
    from omega21.cli.output import Output

    output = Output(json=json, quiet=quiet, verbose=verbose)
    with connect(
        url, token=token, token_file=token_file, ca=ca, timeout=timeout, output=output
    ) as client:
        position = client.resume(run)
    output.result(position.model_dump(mode="json"), _position(position))


@app.command()
def remove(
    run: RunArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
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
    """Remove a run for good.

    From a server with --url, else its folder on this machine.
    """
    import shutil

    from omega21.cli.connection import checked_name, connect
    from omega21.cli.output import Output
    from omega21.client.folder import RunFolder, run_folder_path

    path = run_folder_path(checked_name(run), workdir)
    if url is None:
        with RunFolder.open(path):  # nobody works on it, and it is a run's
            pass
    output = Output(json=json, quiet=quiet, verbose=verbose)
    if not yes and not output.confirmed(f"remove run {run} from {url or path} for good?"):
        raise typer.Abort
    if url is not None:
        with connect(
            url, token=token, token_file=token_file, ca=ca, timeout=timeout, output=output
        ) as client:
            client.remove_run(run)
    else:
        shutil.rmtree(path)
    document = {"run": run, "removed_from": url or str(path)}
    output.result(document, f"removed run {run}")


app.command("export")(archive.export_run)
app.command("import")(archive.import_run)


def _position(position: "RunSummary") -> str:
    return f"run {position.run}: {position.state}, step {position.step} of {position.target}"


def _server_row(run: "RunSummary") -> Sequence[str]:
    return (run.run, run.state, str(run.step), str(run.target), str(run.durable_step))


def _folder_row(record: "RunRecord") -> Sequence[str]:
    return (
        record.run,
        _moment(record.created_at),
        str(record.finished_segments),
        record.server or "-",
    )


def _state_rows(state: "RunState") -> list[tuple[str, str]]:
    rows = [
        ("run", state.run),
        ("state", state.state),
        ("step", f"{state.step} of {state.target}; the plan has {state.plan_steps}"),
        ("durable", f"step {state.durable_step}"),
        ("segments", str(state.segments)),
        ("waiting for", f"{len(state.waiting_for)} shards"),
        ("weights", state.weights_sha256),
        ("made", _moment(state.created_at)),
        ("seed", str(state.config.seed)),
    ]
    if state.reason:
        rows.append(("reason", state.reason))
    return rows


def _record_rows(record: "RunRecord") -> list[tuple[str, str]]:
    return [
        ("run", record.run),
        ("made", _moment(record.created_at)),
        ("segments trained", str(record.finished_segments)),
        ("seed", str(record.config.seed)),
        ("server last used", record.server or "-"),
    ]


def _moment(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
