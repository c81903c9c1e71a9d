"""`omega21 runs`: the runs of a server, or those kept on this machine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from omega21.cli import archive
from omega21.cli.options import OutputOptions, RunArgument, ServerOptions, Workdir
from omega21.cli.signature import command, expanded
from omega21.cli.ui.help import Group
from omega21.cli.ui.states import state_label
from omega21.language import _, ngettext
from omega21.language.borrowed import translated
from omega21.language.figures import count, moment

if TYPE_CHECKING:
    from omega21.client.store.run_folder import RunRecord
    from omega21.protocol.runs import RunState, RunSummary

app = typer.Typer(cls=Group, rich_markup_mode=None, invoke_without_command=True)


def runs(
    context: typer.Context,
    *,
    workdir: Workdir = None,
    server: ServerOptions,
    output: OutputOptions,
) -> None:
    """List and manage runs.

    Those of a server with --url, else those kept on this machine.
    """
    if context.invoked_subcommand is None:
        list_runs(server=server, workdir=workdir, output=output)
        return
    for option in context.command.params:
        source = context.get_parameter_source(option.name)
        if source is not None and source.name == "COMMANDLINE":
            command = f"omega21 runs {context.invoked_subcommand}"
            message = _("it belongs after {command!r}").format(command=command)
            raise typer.BadParameter(message, param_hint=option.opts[0])


app.callback()(expanded(runs))


@command(app, "list")
def list_runs(*, workdir: Workdir = None, server: ServerOptions, output: OutputOptions) -> None:
    """List runs.

    Those of a server with --url, by name; else those kept on this machine, newest first.
    """
    from omega21.cli.connection import connect
    from omega21.cli.ui.output import table
    from omega21.client.store.run_folder import look_at_run_folders

    out = output.open()
    if server.address is not None:
        with connect(server, out) as client:
            found = client.runs()
        titles = (_("run"), _("state"), _("step"), _("target"), _("durable"))
        document = {"runs": [run.model_dump(mode="json") for run in found]}
        out.result(document, table(titles, map(_server_row, found)))
        return
    here, damaged = look_at_run_folders(workdir)
    columns = (_("run"), _("made"), _("segments trained"), _("server"))
    rows = [*map(_folder_row, here), *((one.run, _("damaged"), "-", "-") for one in damaged)]
    document = {
        "runs": [run.model_dump(mode="json") for run in here],
        "damaged": [{"run": one.run, "why": one.error.message} for one in damaged],
    }
    out.result(document, table(columns, rows))
    for one in damaged:
        out.info(
            _("run {run} is damaged: {error}; `omega21 runs remove {run}` removes it").format(
                run=one.run, error=one.error
            )
        )


@command(app)
def show(
    run: RunArgument,
    *,
    workdir: Workdir = None,
    server: ServerOptions,
    output: OutputOptions,
) -> None:
    """Show a run.

    One of a server with --url, else one kept on this machine.
    """
    from omega21.cli.connection import connect
    from omega21.cli.ui.output import key_values
    from omega21.client.store.run_folder import read_run_folder, run_folder_path
    from omega21.protocol.errors import UnknownRun
    from omega21.protocol.names import checked_name

    out = output.open()
    if server.address is not None:
        with connect(server, out) as client:
            state = client.api.runs.state(run)
        out.result(state.model_dump(mode="json"), key_values(_state_rows(state)))
        return
    path = run_folder_path(checked_name(run), workdir)
    if not (path / "run.json").exists():
        raise UnknownRun(
            _("there is no run {run!r} on this machine: {path}").format(run=run, path=path),
            hint=_("for a run on a server, give its address with --url or COLAB_SERVER_URL"),
        )
    record, _segments = read_run_folder(path)
    rows = [*_record_rows(record), (_("folder"), str(path))]
    out.result(record.model_dump(mode="json"), key_values(rows))


@command(app)
def pause(run: RunArgument, *, server: ServerOptions, output: OutputOptions) -> None:
    """Pause a run on a server after the current step."""
    _control(run, server, output, paused=True)


@command(app)
def unpause(run: RunArgument, *, server: ServerOptions, output: OutputOptions) -> None:
    """Continue a paused run on a server."""
    _control(run, server, output, paused=False)


@command(app)
def remove(
    run: RunArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    workdir: Workdir = None,
    server: ServerOptions,
    output: OutputOptions,
) -> None:
    """Remove a run permanently.

    From a server with --url, else its folder on this machine.
    """
    from omega21.cli.connection import connect
    from omega21.client.store.run_folder import check_removable, remove_run_folder, run_folder_path
    from omega21.protocol.names import checked_name

    path = run_folder_path(checked_name(run), workdir)
    if server.address is None:
        check_removable(path)  # before the question
    out = output.open()
    behind = path.resolve() if server.address is None and path.is_symlink() else None
    place = server.address or str(path)
    question = _("remove run {run} from {place} for good?").format(run=run, place=place)
    if not yes and not out.confirmed(question):
        raise typer.Abort
    if server.address is not None:
        with connect(server, out) as client:
            client.remove(run)
    else:
        remove_run_folder(path)
        if behind is not None:
            out.info(
                _("{path} was a link; its target {target} was not removed").format(
                    path=path, target=behind
                )
            )
    document = {"run": run, "removed_from": place}
    out.result(document, _("removed run {run}").format(run=run))


command(app, "export")(archive.export_run)
command(app, "import")(archive.import_run)


def _control(run: str, server: ServerOptions, output: OutputOptions, *, paused: bool) -> None:
    from omega21.cli.connection import connect

    out = output.open()
    with connect(server, out) as client:
        position = client.pause(run) if paused else client.unpause(run)
    shown = _("run {run}: {state}, step {step} of {target}").format(
        run=run,
        state=state_label(position.state),
        step=count(position.step),
        target=count(position.target),
    )
    out.result(position.model_dump(mode="json"), shown)


def _server_row(run: "RunSummary") -> Sequence[str]:
    steps = (run.step, run.target, run.durable_step)
    return (run.run, state_label(run.state), *map(count, steps))


def _folder_row(record: "RunRecord") -> Sequence[str]:
    return (
        record.run,
        moment(record.created_at),
        count(record.finished_segments),
        record.server or "-",
    )


def _state_rows(state: "RunState") -> list[tuple[str, str]]:
    steps = _("{step} of {target}; the plan has {planned}").format(
        step=count(state.step), target=count(state.target), planned=count(state.plan_steps)
    )
    missing = len(state.waiting_for)
    shards = ngettext("{count} shard", "{count} shards", missing).format(count=count(missing))
    rows = [
        (_("run"), state.run),
        (_("state"), state_label(state.state)),
        (_("step"), steps),
        (_("durable"), _("step {step}").format(step=count(state.durable_step))),
        (_("segments"), count(state.segments)),
        (_("waiting for"), shards),
        (_("weights"), state.weights_sha256),
        (_("made"), moment(state.created_at)),
        (_("seed"), str(state.config.seed)),
    ]
    if state.reason:
        rows.append((_("reason"), translated(state.reason)))
    return rows


def _record_rows(record: "RunRecord") -> list[tuple[str, str]]:
    return [
        (_("run"), record.run),
        (_("made"), moment(record.created_at)),
        (_("segments trained"), count(record.finished_segments)),
        (_("seed"), str(record.config.seed)),
        (_("server last used"), record.server or "-"),
    ]
