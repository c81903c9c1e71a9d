"""What `train` and `demo` do: an order is made, a server found, its events shown, figures told."""

import shlex
import time
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from omega21.cli.connection import checked_name, embedded
from omega21.cli.options import DataOptions, ServerOptions, TrackingOptions, TrainingOptions
from omega21.cli.report.file import write_report
from omega21.cli.servers import find_server, opened
from omega21.cli.ui.diagnosis import diagnosis_rows
from omega21.cli.ui.live import open_view
from omega21.cli.ui.metrics import metrics_rows
from omega21.cli.ui.output import Output, facts
from omega21.cli.ui.result import show_outcome
from omega21.cli.values import evaluate_when, size
from omega21.client.events import Done, RunReady
from omega21.client.loggers import LoggerChoice, load_logger
from omega21.client.store.run_folder import fresh_run_name
from omega21.client.sync import Client
from omega21.client.training.checkpoint_download import Pull
from omega21.client.training.presets import PRESETS, Preset
from omega21.client.training.request import TrainRequest, next_segment
from omega21.client.training.resume import is_unfinished, newest_unfinished, resume_command
from omega21.data.sources.files import open_data
from omega21.language import _
from omega21.language.figures import clock
from omega21.protocol.errors import (
    InvalidRequest,
    LinkFailure,
    NonFiniteSteps,
    OmegaError,
    OutOfPatience,
    Unauthorized,
)

_PLAIN: Final = Preset(500, 64, "simple", 10)
_EMBEDDED_PATIENCE: Final = 30.0
"""Seconds for a server on this machine: when it is gone, nobody starts it again."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training as it was asked for on the command line; times are in seconds."""

    order: TrainRequest
    is_fresh: bool = True
    server: ServerOptions = field(default_factory=ServerOptions)
    workdir: Path | None = None
    patience: float = 600.0
    pull: Pull = "auto"
    finishing_only: bool = False
    every: float | None = None
    diagnose: bool = False
    metrics: bool = False
    report: bool = False
    loggers: tuple[LoggerChoice, ...] = ()

    @property
    def address(self) -> str | None:
        """The server's address; None for a server that is started on this machine."""
        return self.server.address

    def resume_command(self) -> str:
        """Return the command that goes on with this run: what was begun, else the next samples."""
        if is_unfinished(self.order.run, self.workdir):
            return resume_command(self.order.run, self.workdir)
        order, plain = self.order, TrainRequest(run=self.order.run)
        words = [
            "omega21",
            "train",
            *([self.address] if self.address else []),
            "--run",
            order.run,
        ]
        for option, given, usual in (
            ("--seed", order.seed, plain.seed),
            ("--validation", order.validation, plain.validation),
            ("--evaluate-every", order.evaluate_every, plain.evaluate_every),
            ("--data", order.data, None),
            ("--samples-type", order.samples_type, None),
            ("--budget", order.budget, None),
            ("--workdir", self.workdir, None),
        ):
            if given != usual:
                words += [option, str(given)]
        return shlex.join(words + (["--fast"] if not order.deterministic else []))


def chosen_loggers(tracking: TrackingOptions) -> tuple[LoggerChoice, ...]:
    """Read the loggers that were asked for. Raises InvalidRequest, ExtraMissing."""
    chosen = [*(["tensorboard"] if tracking.tensorboard else []), *(tracking.logger or [])]
    return tuple(load_logger(name) for name in dict.fromkeys(chosen))


def make_request(data: DataOptions, training: TrainingOptions) -> TrainRequest:
    """Put options over a preset over the defaults, and check what can be checked here.

    Raises InvalidRequest for an unknown preset or what contradicts itself, and what reading the
    data file raises.
    """
    preset, file = training.preset, data.data
    if preset is not None and preset not in PRESETS:
        raise InvalidRequest(
            _("no preset {name}").format(name=repr(preset)),
            hint=_("choose one of {names}").format(names=", ".join(PRESETS)),
        )
    if file is not None and (preset or data.kind or data.anomaly_percent is not None):
        raise InvalidRequest(
            _("--data brings its own samples"),
            hint=_("leave out --preset, --kind and --anomaly-percent"),
        )
    usual = _PLAIN if preset is None else PRESETS[preset]
    percent = usual.anomaly_percent if data.anomaly_percent is None else data.anomaly_percent
    order = TrainRequest(
        run=fresh_run_name() if training.run is None else checked_name(training.run),
        samples=data.samples or (None if file is not None else usual.samples),
        batch_size=training.batch_size or usual.batch_size,
        epochs=training.epochs,
        kind=data.kind or usual.kind,
        anomaly_percent=percent,
        seed=training.seed,
        data=file,
        validation=data.validation,
        evaluate_every=evaluate_when(training.evaluate_every),
        deterministic=not training.fast,
        samples_type=data.samples_type,
        budget=None if data.budget is None else size(data.budget, "--budget"),
    )
    order.config()
    if file is None:
        next_segment(order, (), file=None)
    else:
        open_data(file)
    return order


def train_job(job: Job, output: Output) -> None:
    """Train as asked and show what came of it, once or again and again."""
    if job.is_fresh:
        tell_unfinished(job, output)
        output.note(_("run {run}").format(run=job.order.run))
    is_trained = False
    try:
        with open_server(job, output) as client:
            if job.diagnose:
                output.aside(facts(diagnosis_rows(client.diagnose())))
            while True:
                start = time.monotonic()
                done = train_segment(client, job, output)
                is_trained = job.every is None
                show_outcome(done, output)
                if job.report:
                    tell_report(job, output)
                if job.metrics:
                    output.aside(facts(metrics_rows(client.metrics(job.order.run))))
                if non_finite := done.summary.non_finite_steps:
                    raise NonFiniteSteps(
                        _("{count} of {steps} steps of run {run} trained nothing").format(
                            count=non_finite, steps=done.summary.steps, run=job.order.run
                        )
                    )
                if job.every is None:
                    return
                _wait(start + job.every - time.monotonic(), output)
    except KeyboardInterrupt:
        if is_trained:
            finished = _("run {run} is finished; only what comes after it was cut off: {command}")
            again = ["omega21", "report", job.order.run]
            folder = ["--workdir", str(job.workdir)] if job.workdir is not None else []
            output.note(finished.format(run=job.order.run, command=shlex.join(again + folder)))
            raise
        goes_on = _("run {run} keeps training in the background; to come back to it: {command}")
        stopped = _("run {run} is stopped; to come back to it: {command}")
        text = goes_on if job.address else stopped
        output.note(text.format(run=job.order.run, command=job.resume_command()))
        raise


def tell_unfinished(job: Job, output: Output) -> None:
    """Name a run that waits to be finished, where a new one is begun on a server beside it."""
    if job.address is None:
        return
    try:
        waiting = newest_unfinished(job.workdir).run
    except (OmegaError, OSError):
        return  # none, or a folder that cannot be read, which is no matter of the new run's
    command = f"{resume_command(waiting, job.workdir)} --url {shlex.quote(job.address)}"
    output.note(
        _("run {run} is unfinished, and this begins another; to go on with it: {command}").format(
            run=waiting, command=command
        )
    )


def tell_report(job: Job, output: Output, outlives: Path | None = None) -> None:
    """Write the report of what was trained and say where it is; without one, say why.

    It lies in the run's folder, or where it outlives that.
    """
    try:
        path = write_report(
            job.order.run, workdir=job.workdir, path=outlives, run_is_kept=outlives is None
        )
    except (OmegaError, OSError) as error:
        output.note(_("the report was not written: {reason}").format(reason=error))
    else:
        output.aside(facts([(_("report"), str(path))]))


def open_server(job: Job, output: Output) -> AbstractContextManager[Client]:
    """Open the server at the job's address, or start one for it on this machine."""
    if job.address is not None:
        server = find_server(job.server)
        assert server is not None
        return opened(server)
    return embedded(job.order.run, workdir=job.workdir, timeout=job.server.timeout, output=output)


def train_segment(client: Client, job: Job, output: Output) -> Done:
    """Train one segment, showing its events; return the last one.

    Raises what `Client.train` raises; a broken link names the command that goes on.
    """
    patience = job.patience if job.address else min(job.patience, _EMBEDDED_PATIENCE)
    pull = "never" if job.address is None and job.pull == "auto" else job.pull
    if job.finishing_only:
        training = client.resume(
            job.order.run,
            workdir=job.workdir,
            patience=patience,
            pull=pull,
            loggers=job.loggers,
        )
    else:
        training = client.train(
            job.order, workdir=job.workdir, patience=patience, pull=pull, loggers=job.loggers
        )
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
            resume_command = _("{hint}; nothing is lost, go on with: {command}").format(
                hint=error.hint, command=job.resume_command()
            )
            raise type(error)(error.message, hint=resume_command) from error
    raise AssertionError("a training ends with Done or an error")


def _wait(delay: float, output: Output) -> None:
    if delay > 0:
        begins = clock(time.time() + delay)
        output.note(
            _("the next samples are trained at {time}; Ctrl-C ends this").format(time=begins)
        )
        time.sleep(delay)
