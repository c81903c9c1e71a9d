"""What `train`, `resume` and `demo` do: make a request, find a server, show events and metrics."""

import shlex
import time
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from omega21.cli.connection import consent_arguments, local_server
from omega21.cli.options import ServerOptions
from omega21.cli.report.file import write_report
from omega21.cli.report.repeating import optimizer_words
from omega21.cli.servers import find_server, open_client
from omega21.cli.ui.diagnosis import diagnosis_rows
from omega21.cli.ui.live import open_view
from omega21.cli.ui.metrics import metrics_rows
from omega21.cli.ui.output import Output, key_values
from omega21.cli.ui.result import show_outcome
from omega21.client.events import Done, RunReady
from omega21.client.request.request import TrainRequest
from omega21.client.store.run_folder import server_data_path
from omega21.client.sync import Client
from omega21.client.training.options import TrainOptions
from omega21.client.training.resume import is_unfinished, newest_unfinished, resume_command
from omega21.language import _
from omega21.language.figures import clock
from omega21.language.figures import size as size_text
from omega21.protocol.errors import (
    LinkFailure,
    NonFiniteSteps,
    OmegaError,
    OutOfPatience,
    Unauthorized,
)

_LOCAL_PATIENCE: Final = 30.0
"""Seconds for a server on this machine: when it is gone, nobody starts it again."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train, where, and what to do with the result; times are in seconds."""

    request: TrainRequest
    options: TrainOptions
    is_fresh: bool = True
    server: ServerOptions = field(default_factory=ServerOptions)
    finishing_only: bool = False
    every: float | None = None
    diagnose: bool = False
    metrics: bool = False
    report: bool = False

    @property
    def address(self) -> str | None:
        """The server's address; None for a server that is started on this machine."""
        return self.server.address

    @property
    def workdir(self) -> Path | None:
        """The folder of run folders; None for the user's data folder."""
        return self.options.workdir

    def resume_command(self) -> str:
        """Return the command that continues this run: unfinished steps, else the next samples."""
        if is_unfinished(self.request.run, self.workdir):
            return resume_command(self.request.run, self.workdir)
        request, plain = self.request, TrainRequest(run=self.request.run)
        address = [self.address] if self.address else []
        words = ["omega21", "train", *address, "--run", request.run]
        for option, given, usual in (
            ("--seed", request.seed, plain.seed),
            ("--validation", request.validation, plain.validation),
            ("--evaluate-every", request.evaluate_every, plain.evaluate_every),
            ("--data", request.data, None),
            ("--targets", request.targets and ",".join(request.targets), None),
            ("--micro-batch", request.micro_batch, None),
            ("--samples-type", request.samples_type, None),
            ("--budget", request.budget, None),
            ("--workdir", self.workdir, None),
        ):
            if given != usual:
                words += [option, str(given)]
        words += optimizer_words(request.optimizer)
        return shlex.join(words + (["--fast"] if not request.deterministic else []))


def train_job(job: Job, output: Output) -> None:
    """Train and show the result, once or at the job's interval."""
    if job.is_fresh:
        show_unfinished(job, output)
        output.info(_("run {run}").format(run=job.request.run))
    done: Done | None = None
    try:
        with open_server(job, output) as client:
            if job.diagnose:
                output.details(key_values(diagnosis_rows(client.diagnose())))
            while True:
                start = time.monotonic()
                done = train_segment(client, job, output)
                _show_result(done, job, client, output=output)
                if job.every is None:
                    return
                _wait(start + job.every - time.monotonic(), output)
    except KeyboardInterrupt:
        output.info(_interruption(job, is_finished=done is not None and job.every is None))
        raise


def _show_result(done: Done, job: Job, client: Client, *, output: Output) -> None:
    """Show what was trained, with what else was asked for. Raises NonFiniteSteps."""
    show_outcome(done, output)
    if job.report:
        save_report(job, output)
    if job.metrics:
        output.details(key_values(metrics_rows(client.metrics(job.request.run))))
    if non_finite := done.summary.non_finite_steps:
        raise NonFiniteSteps(
            _("{count} of {steps} steps of run {run} changed nothing").format(
                count=non_finite, steps=done.summary.steps, run=job.request.run
            )
        )


def _interruption(job: Job, *, is_finished: bool) -> str:
    """Say what Ctrl-C left of the run, and the command that continues it."""
    command = job.resume_command()
    if is_finished:
        text = _("run {run} is finished; only what comes after it was cut off: {command}")
        folder = ["--workdir", str(job.workdir)] if job.workdir is not None else []
        command = shlex.join(["omega21", "report", job.request.run, *folder])
    elif job.address:
        text = _("run {run} keeps training in the background; to return to it: {command}")
    else:
        text = _("run {run} is stopped; to continue it: {command}")
    return text.format(run=job.request.run, command=command)


def show_unfinished(job: Job, output: Output) -> None:
    """Print the command that continues an unfinished run, where a new run is about to begin."""
    if job.address is None:
        return
    try:
        waiting = newest_unfinished(job.workdir).run
    except (OmegaError, OSError):
        return  # none, or a folder that cannot be read, which is no matter of the new run's
    command = f"{resume_command(waiting, job.workdir)} --url {shlex.quote(job.address)}"
    output.info(
        _("run {run} is unfinished, and this begins another; to go on with it: {command}").format(
            run=waiting, command=command
        )
    )


def save_report(job: Job, output: Output, outlives: Path | None = None) -> None:
    """Write the run's report and print its path, or why it was not written.

    `outlives` is its path where the run's folder is temporary.
    """
    try:
        path = write_report(
            job.request.run, workdir=job.workdir, path=outlives, run_is_kept=outlives is None
        )
    except (OmegaError, OSError) as error:
        output.info(_("the report was not written: {reason}").format(reason=error))
    else:
        output.details(key_values([(_("report"), str(path))]))


def open_server(job: Job, output: Output) -> AbstractContextManager[Client]:
    """Open the server at the job's address, or start one on this machine."""
    if job.address is not None:
        server = find_server(job.server)
        assert server is not None
        return open_client(server)
    data = server_data_path(job.request.run, job.workdir)
    arguments = consent_arguments(job.request.task)
    return local_server(data, timeout=job.server.timeout, output=output, arguments=arguments)


def show_code(request: TrainRequest, output: Output) -> None:
    """Show the files of the user's own source, with their sizes, before anything is sent."""
    if request.code is not None:
        files = [(name, size_text(size)) for name, size in request.code.file_sizes()]
        whole = (_("source"), f"sha256:{request.code.sha256}, {size_text(request.code.size)}")
        output.details(key_values([*files, whole]))


def train_segment(client: Client, job: Job, output: Output) -> Done:
    """Train one segment, showing its events; return the last one.

    Raises what `Client.train` raises; a link failure names the command that continues.
    """
    options = job.options
    if job.address is None:
        pull = "never" if options.pull == "auto" else options.pull
        patience = min(options.patience, _LOCAL_PATIENCE)
        options = replace(options, pull=pull, patience=patience)
    if job.finishing_only:
        training = client.resume(job.request.run, options)
    else:
        training = client.train(job.request, options)
    with open_view(output, client.traffic) as view, closing(training) as events:
        is_begun = False
        try:
            for event in events:
                view.show(event)
                is_begun = is_begun or isinstance(event, RunReady)
                if isinstance(event, Done):
                    return event
        except (LinkFailure, Unauthorized) as error:
            if not is_begun or isinstance(error, OutOfPatience):
                raise
            hint = _("{hint}; nothing is lost, go on with: {command}").format(
                hint=error.hint, command=job.resume_command()
            )
            raise type(error)(error.message, hint=hint) from error
    raise AssertionError("a training ends with Done or an error")


def _wait(delay: float, output: Output) -> None:
    if delay > 0:
        begins = clock(time.time() + delay)
        output.info(
            _("the next samples are trained at {time}; Ctrl-C ends this").format(time=begins)
        )
        time.sleep(delay)
