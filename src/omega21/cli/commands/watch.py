"""`omega21 watch`: shows a run's progress from any terminal, without changing the run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from omega21.cli.options import EventOutputOptions, LongServerOptions, Workdir, address_argument
from omega21.cli.values import seconds
from omega21.language import _

if TYPE_CHECKING:
    from omega21.cli.ui.output import Output
    from omega21.client.sync import Client
    from omega21.protocol.errors import OmegaError
    from omega21.protocol.runs import RunSummary

EXAMPLES: Final = """
# A run that another terminal started
omega21 watch --run hourly
"""


@dataclass(frozen=True, kw_only=True)
class WatchServerOptions(LongServerOptions):
    """The server of the run to watch."""

    address: Annotated[str | None, address_argument("the run's last server")] = None


def watch(
    *,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the run.",
            show_default="the server's only run, else the newest on this machine",
        ),
    ] = None,
    workdir: Workdir = None,
    server: WatchServerOptions,
    output: EventOutputOptions,
) -> None:
    """Watch a run before, during and after training.

    Without its server, shows what the run folder holds. Ctrl-C stops watching; the run continues.
    """
    from omega21.cli.connection import connect
    from omega21.client.run_reader import newest_run
    from omega21.protocol.errors import LinkFailure

    out = output.open()
    length = seconds(server.patience, "--patience")
    if run is None and server.address is None:
        run = newest_run(workdir)
    server = replace(server, address=server.address or _last_address(run or "", workdir))
    try:
        with connect(server, out) as client:
            name = run or _choose_run(client, workdir, out)
            _watch_server(client, name, workdir=workdir, patience=length, output=out)
    except LinkFailure as error:
        if run is None:
            raise
        _show_stored(run, workdir, output=out, error=error)


def _last_address(run: str, workdir: Path | None) -> str:
    """Return the address of a run's last server; one started here may be running now."""
    from omega21.client.http.address import FoundAddress
    from omega21.client.known_servers import newest_address
    from omega21.client.run_reader import open_stored_run
    from omega21.protocol.errors import InvalidAddress
    from omega21.protocol.names import checked_name

    with open_stored_run(checked_name(run), workdir) as stored:
        if stored.record.server is None:
            raise InvalidAddress(_("run {run} has not been on a server yet").format(run=run))
        last = stored.record.server
        return FoundAddress(newest_address(stored.record.server_id, last=last) or last)


def _choose_run(client: "Client", workdir: Path | None, output: "Output") -> str:
    """Choose a run: the one in training, the only one, else the newest on this machine."""
    from omega21.client.store.run_folder import list_run_folders
    from omega21.protocol.errors import InvalidRequest

    begun = {run.run: run for run in _wait_for_runs(client, output)}
    at_work = [name for name, run in begun.items() if run.state in {"training", "waiting"}]
    here = [record.run for record in list_run_folders(workdir)]
    for names in (at_work, list(begun)):
        if len(names) == 1:
            return names[0]
        if known := [name for name in here if name in names]:
            return known[0]
    raise InvalidRequest(
        _("the server has several runs: {names}").format(names=", ".join(sorted(begun))),
        hint=_("choose one with --run"),
    )


def _wait_for_runs(client: "Client", output: "Output") -> "list[RunSummary]":
    """Wait until a run of the server has a plan, and return all that have one."""
    import time

    from omega21.client.http.link import link_profile

    pause = link_profile(client.address).poll_seconds
    is_told = False
    while not (begun := [run for run in client.runs() if run.plan_steps]):
        if not is_told:
            output.info(_("no run has begun on the server yet: waiting for one"))
            is_told = True
        time.sleep(pause)
    return begun


def _watch_server(
    client: "Client", run: str, *, workdir: Path | None, patience: float, output: "Output"
) -> None:
    from contextlib import closing

    from omega21.cli.ui.live import open_view
    from omega21.cli.ui.result import show_outcome
    from omega21.client.events import Done

    done = None
    watching = client.watch(run, workdir=workdir, patience=patience)
    try:
        with open_view(output, client.traffic) as view, closing(watching) as events:
            for event in events:
                view.show(event)
                done = event if isinstance(event, Done) else done
    except KeyboardInterrupt:
        output.info(
            _(
                "run {run} continues; watch it again with: omega21 watch {address} --run {run}"
            ).format(run=run, address=client.address)
        )
        raise
    assert done is not None
    show_outcome(done, output)


def _show_stored(run: str, workdir: Path | None, *, output: "Output", error: "OmegaError") -> None:
    """Show what the folder of a run holds, where its server cannot be reached.

    Raises UnknownRun without a folder, and `error` again where the run is not finished.
    """
    from omega21.cli.ui.live import open_view
    from omega21.cli.ui.result import outcome
    from omega21.client.http.usage import Traffic
    from omega21.client.run_reader import open_stored_run
    from omega21.client.training.resume import resume_command

    output.info(
        _("the server is not reachable: {error}; this is read from the run folder").format(
            error=error.message
        )
    )
    with open_stored_run(run, workdir) as stored:
        if not stored.segments:
            raise error
        with open_view(output, Traffic()) as view:
            for event in stored.events():
                view.show(event)
        summary = stored.summary()
        if summary is not None:
            position = stored.position()
            shown = outcome(
                summary, stored.evaluation(), step=position.step, planned=position.plan_steps
            )
            output.result(summary.as_dict(), shown)
        if not stored.is_finished:
            hint = _("the run is not finished; continue with: {command}").format(
                command=resume_command(run, workdir)
            )
            raise type(error)(error.message, hint=hint) from error
