"""The server of a command: one at an address, or one started here until the command ends."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from omega21.cli.options import DEFAULT_ADDRESS, ServerOptions
from omega21.cli.servers import find_server, open_client
from omega21.cli.train_options import TrainServerOptions
from omega21.cli.ui.output import Output
from omega21.client.http.address import FoundAddress
from omega21.client.known_servers import newest_address, remembered
from omega21.client.local_server import LocalServer
from omega21.client.store.run_folder import (
    list_run_folders,
    read_run_folder,
    run_folder_path,
    server_data_path,
)
from omega21.client.sync import Client
from omega21.client.training.resume import was_local
from omega21.client.verify import recorded_environment, verify_folder
from omega21.language import _
from omega21.protocol.errors import UnknownRun
from omega21.protocol.names import DEFAULT_RUN, checked_name
from omega21.protocol.steps import MAX_WAIT_SECONDS
from omega21.protocol.tasks.task import CodeTask, Task

ATTEMPTS: Final = 3
"""Attempts for a request of a short command: fewer than in training, so that it fails soon."""


@contextmanager
def connect(options: ServerOptions, output: Output) -> Iterator[Client]:
    """Open a client of the server at the address given, else of the one used last or a local one.

    Raises InvalidAddress.
    """
    server = find_server(options, output) or find_server(replace(options, address=DEFAULT_ADDRESS))
    assert server is not None
    with open_client(replace(server, attempts=ATTEMPTS)) as client:
        yield client


def run_to_show(client: Client, run: str | None) -> str:
    """Return the run to show: the one named, else the user's newest on the server.

    If no run of the server is known on this machine, the one with the most steps; else the default
    run, which every server has.
    """
    if run is not None:
        return run
    on_server = client.runs()
    names = {found.id: found.run for found in on_server}
    for record in list_run_folders():
        if record.id in names:
            return names[record.id]
    with_steps = [found for found in on_server if found.plan_steps or found.step]
    return max(with_steps, key=lambda found: found.step).run if with_steps else DEFAULT_RUN


@contextmanager
def local_server(
    folder: Path, *, timeout: float, output: Output, arguments: Sequence[str] = ()
) -> Iterator[Client]:
    """Start a server on this machine whose data is in `folder`; stop it at the end.

    Raises NotOnThisServer without the `server` extra, Unavailable when it does not start.
    """
    output.info(_("no address given: starting a server on this machine"))
    with LocalServer(folder, arguments=arguments) as server:
        output.info(_("the server listens on {address}").format(address=server.address))
        with Client(server.address, timeout=timeout) as client:
            yield client


def consent_arguments(task: Task) -> list[str]:
    """Return the options of a server on this machine that executes the user's own task."""
    if not isinstance(task, CodeTask):
        return []
    install = ["--allow-install"] if task.requirements else []
    return ["--allow-code", f"sha256:{task.code_sha256}", *install]


@contextmanager
def server_of_run(
    run: str, options: ServerOptions, *, workdir: Path | None, output: Output
) -> Iterator[Client]:
    """Open the server that has a run: at the address given, or the one that trained it here.

    A run that was not trained here is looked for on the server used last. A server started here
    first restores the run to its last step. Raises UnknownRun when no server is known.
    """
    checked_name(run)
    data = server_data_path(run, workdir)
    is_here = data.is_dir()
    if options.address is not None or (not is_here and remembered()):
        with connect(options, output) as client:
            yield client
        return
    if not is_here:
        raise UnknownRun(
            _("run {run!r} was not trained on this machine: {path}").format(
                run=run, path=run_folder_path(run, workdir)
            ),
            hint=_("give the address of the server that has it, with --url or COLAB_SERVER_URL"),
        )
    arguments = _consent_of(run, workdir)
    with local_server(data, timeout=options.timeout, output=output, arguments=arguments) as client:
        _wait_until_restored(client, run)
        yield client


def _consent_of(run: str, workdir: Path | None) -> list[str]:
    record, _segments = read_run_folder(run_folder_path(run, workdir))
    return consent_arguments(record.config.task)


@contextmanager
def server_to_verify(
    run: str, options: ServerOptions, *, workdir: Path | None, output: Output
) -> Iterator[Client]:
    """Open the server at the address given, or start one to compute the run again.

    With as many threads as it was computed with. Raises RunFolderConflict when the run is not on
    this machine.
    """
    environment = recorded_environment(run, workdir)
    if options.address is not None:
        with connect(options, output) as client:
            yield client
        return
    on_cpu = environment is not None and environment.device == "cpu"
    arguments = ["--threads", str(environment.threads)] if environment and on_cpu else []
    arguments += _consent_of(run, workdir)
    folder = verify_folder(run_folder_path(run, workdir))
    try:
        with local_server(
            folder / "server", timeout=options.timeout, output=output, arguments=arguments
        ) as client:
            yield client
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server_last_used(
    run: str, options: ServerOptions, *, workdir: Path | None, output: Output
) -> Iterator[Client]:
    """Open the server at the address given, else the run's last server.

    Raises UnknownRun when the run is not on this machine and no address is given.
    """
    found = replace(options, address=options.address or last_address(run, workdir))
    with server_of_run(run, found, workdir=workdir, output=output) as client:
        yield client


def last_address(run: str, workdir: Path | None) -> str | None:
    """Return the address of a run's last server; None where it was started here.

    The server's newest address, where it has been used at another one since.
    """
    path = run_folder_path(checked_name(run), workdir)
    if not (path / "run.json").exists():
        return None
    record, _ = read_run_folder(path)
    if was_local(record, workdir):
        return None
    address = newest_address(record.server_id, last=record.server) or record.server
    return None if address is None else FoundAddress(address)


def address_to_train(run: str, options: TrainServerOptions, workdir: Path | None) -> str | None:
    """Return where `train` trains: None for a server that is started on this machine.

    The address given; else here, if the run was trained here; else the server used last, if any.
    """
    if options.local:
        return None
    if options.address is not None:
        return options.address
    path = run_folder_path(run, workdir)
    if (path / "run.json").exists() and was_local(read_run_folder(path)[0], workdir):
        return None
    return next((FoundAddress(server.address) for server in remembered()), None)


def _wait_until_restored(client: Client, run: str) -> None:
    """Wait until a restarted server has restored the run."""
    state = client.api.runs.state(run)
    while state.state == "training":
        client.api.steps.read(run, after=state.target - 1, wait=MAX_WAIT_SECONDS, limit=1)
        state = client.api.runs.state(run)
