"""`omega21 train`: trains samples on a server, and shows what comes of it."""

from pathlib import Path
from typing import Annotated

import typer

from omega21.cli.options import (
    Ca,
    EvaluateWhen,
    JsonLines,
    KindName,
    Loggers,
    Patience,
    PullCheckpoints,
    Quiet,
    ReportAtEnd,
    SamplesTypeName,
    TensorBoard,
    Timeout,
    Token,
    TokenFile,
    Verbose,
    Workdir,
    evaluate_when,
    pull_policy,
    seconds,
    size,
)


def train(
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            envvar="COLAB_SERVER_URL",
            help="The server's address; without one, the server used last, or, if there is none, "
            "one started on this machine for the length of the run.",
        ),
    ] = None,
    *,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            "--muestras",
            min=1,
            metavar="N",
            help="Samples to train: 500, or of a file all that are not held out.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "--lote",
            min=1,
            metavar="N",
            help="Batch size (default: 64).",
        ),
    ] = None,
    kind: Annotated[
        KindName | None,
        typer.Option("--kind", "--tipo", help="Kind of synthetic samples (default: simple)."),
    ] = None,
    anomaly_percent: Annotated[
        float | None,
        typer.Option(
            "--anomaly-percent",
            "--anomalias",
            min=0,
            max=100,
            metavar="P",
            help="Percentage of anomalies in synthetic samples (default: 10).",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", "--semilla", min=0, metavar="N", help="Seed of the run and of its samples."
        ),
    ] = 42,
    epochs: Annotated[
        int,
        typer.Option(
            "--epochs", "--epocas", min=1, metavar="N", help="Times that each sample is used."
        ),
    ] = 1,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Settings by name, which explicit options override: prueba_rapida, "
            "entrenamiento_estandar, deteccion_anomalias, entrenamiento_pesado.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Train the samples of a .npz or .safetensors file with tensors x and y.",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The run: made if it is not there, else its unfinished samples are finished, "
            "or new ones appended. Without it, a run with a fresh name.",
        ),
    ] = None,
    validation: Annotated[
        int,
        typer.Option(
            "--validation",
            "--validacion",
            min=0,
            metavar="N",
            help="Samples held out, scored at the end; 0 for none.",
        ),
    ] = 1000,
    evaluate_every: EvaluateWhen = "epoch",
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            "--cada",
            metavar="TIME",
            help="Train the run's next samples again and again, starting every 30m, 1h or 1d.",
        ),
    ] = None,
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", "--diagnostico", help="Let the server test itself first."),
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", "--metricas", help="Show the run's metrics at the end.")
    ] = False,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="Give up equal bits for speed where the device offers it; the run is marked.",
        ),
    ] = False,
    local: Annotated[
        bool,
        typer.Option(
            "--local", help="Train on this machine, whatever server is named or was used last."
        ),
    ] = False,
    samples_type: Annotated[
        SamplesTypeName | None,
        typer.Option(
            "--samples-type",
            help="What features go up as: float32, or float16, about half the bytes, rounded.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="SIZE",
            help="Most bytes over the link, such as 300MB: what is smaller is chosen to keep it, "
            "float16 among others, or the training is refused.",
        ),
    ] = None,
    logger: Loggers = None,
    tensorboard: TensorBoard = True,
    report: ReportAtEnd = True,
    pull_checkpoints: PullCheckpoints = "auto",
    workdir: Workdir = None,
    patience: Patience = "10m",
    token: Token = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 60,
    json: JsonLines = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train samples on a server, and show the result.

    The run is kept in a folder on this machine. When anything is cut off, `omega21 resume` goes
    on where it was: no sample is trained twice.
    """
    from omega21.cli.connection import address_to_train
    from omega21.cli.training import Job, chosen_loggers, make_request, train_job
    from omega21.cli.ui.output import Output
    from omega21.language import _

    order = make_request(
        run=run,
        preset=preset,
        samples=samples,
        batch_size=batch_size,
        kind=kind,
        anomaly_percent=anomaly_percent,
        seed=seed,
        epochs=epochs,
        data=data,
        validation=validation,
        evaluate_every=evaluate_when(evaluate_every),
        deterministic=not fast,
        samples_type=samples_type,
        budget=None if budget is None else size(budget, "--budget"),
    )
    output = Output(json=json, quiet=quiet, verbose=verbose)
    where = address_to_train(order.run, address=address, local=local, workdir=workdir)
    if address is None and where is not None:
        output.note(
            _("no address given: the server used last, {address} (--local: this machine)").format(
                address=where
            )
        )
    job = Job(
        order=order,
        is_fresh=run is None,
        address=where,
        token=token,
        token_file=token_file,
        ca=ca,
        timeout=timeout,
        workdir=workdir,
        patience=seconds(patience, "--patience"),
        pull=pull_policy(pull_checkpoints),
        report=report,
        loggers=chosen_loggers(logger, tensorboard=tensorboard),
        every=None if every is None else seconds(every, "--every", least=1),
        diagnose=diagnose,
        metrics=metrics,
    )
    train_job(job, output)
