"""The groups of options of `train`, some of which `resume` shares."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from omega21.cli.options import KindName, LongServerOptions, Workdir, address_argument

SamplesTypeName = Literal["float32", "float16"]
LossName = Literal[
    "cross_entropy", "nll", "bce", "bce_with_logits", "mse", "mae", "huber", "reconstruction"
]
OptimizerName = Literal["adamw", "adam", "nadam", "sgd", "rmsprop", "adagrad"]


@dataclass(frozen=True, kw_only=True)
class TrainServerOptions(LongServerOptions):
    """The server that `train` trains on."""

    address: Annotated[
        str | None, address_argument("the server used last, else one started on this machine")
    ] = None
    local: Annotated[
        bool,
        typer.Option("--local", help="Train on this machine, even where an address is known."),
    ] = False
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", "--diagnostico", help="Run the server's self-test first."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The samples to train, and how they are uploaded."""

    panel: ClassVar = "Data"

    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Samples: a .npz or .safetensors file of named tensors [n, …], such as x and y.",
            show_default="synthetic samples",
        ),
    ] = None
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Tensors of the file that are targets, such as y or y,z; none for inputs only.",
            show_default="y, where there is one",
        ),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            "--muestras",
            min=1,
            metavar="N",
            help="Number of samples to train.",
            show_default="500, or the preset's, or all of the file",
        ),
    ] = None
    kind: Annotated[
        KindName | None,
        typer.Option(
            "--kind",
            "--tipo",
            help="Kind of synthetic samples.",
            show_default="simple, or the preset's",
        ),
    ] = None
    anomaly_percent: Annotated[
        float | None,
        typer.Option(
            "--anomaly-percent",
            "--anomalias",
            min=0,
            max=100,
            metavar="P",
            help="Percentage of anomalies in synthetic samples.",
            show_default="10, or the preset's",
        ),
    ] = None
    validation: Annotated[
        int,
        typer.Option(
            "--validation",
            "--validacion",
            min=0,
            metavar="N",
            help="Number of samples held out for evaluation; 0 for none.",
        ),
    ] = 1000
    samples_type: Annotated[
        SamplesTypeName | None,
        typer.Option(
            "--samples-type",
            help="Data type for the upload of float32 inputs; float16 rounds, with half the bytes.",
            show_default="float32, or float16 where --budget needs it",
        ),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="SIZE",
            help="Maximum traffic, such as 300MB: the upload is made smaller to stay within it, or "
            "the training is refused.",
            show_default="no limit",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The run, and how its samples are used."""

    panel: ClassVar = "Training"

    run: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the run. A new run is created; an existing one is finished, or trained "
            "on new samples.",
            show_default="a new name",
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Preset, which other options override: prueba_rapida, "
            "entrenamiento_estandar, deteccion_anomalias, entrenamiento_pesado.",
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "--lote",
            min=1,
            metavar="N",
            help="Batch size.",
            show_default="64, or the preset's",
        ),
    ] = None
    micro_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Samples of a batch that are computed at a time, to need less device memory; the "
            "gradient is that of the whole batch.",
            show_default="the whole batch",
        ),
    ] = None
    epochs: Annotated[
        int,
        typer.Option("--epochs", "--epocas", min=1, metavar="N", help="Number of epochs."),
    ] = 1
    seed: Annotated[
        int,
        typer.Option(
            "--seed", "--semilla", min=0, metavar="N", help="Seed of the run and of its data."
        ),
    ] = 42
    evaluate_every: Annotated[
        str,
        typer.Option(
            "--evaluate-every",
            "--evaluar-cada",
            metavar="WHEN",
            help="Steps between evaluations, never, or epoch: after each epoch, where that takes "
            "at most a tenth of the time.",
        ),
    ] = "epoch"
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="Allow nondeterministic kernels for speed; recorded in the run."
        ),
    ] = False
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            "--cada",
            metavar="TIME",
            help="Repeat with the run's next samples at this interval, such as 30m, 1h or 1d.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The user's own model; fixed when a run is created."""

    panel: ClassVar = "Model"

    model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FUNCTION",
            help="Your own model: the function that builds it, in a file or as package.module:"
            "FUNCTION; or server, the model that the server was started with.",
            show_default="the built-in model",
        ),
    ] = None
    set_options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Option for the function of --model, a JSON value or text; may be repeated.",
        ),
    ] = None
    loss: Annotated[
        LossName | None,
        typer.Option(
            help="Loss of a --model without a function loss.",
            show_default="by the type of the targets",
        ),
    ] = None
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Further files in the folder of --model that it needs, such as data/*.txt; may be "
            "repeated.",
        ),
    ] = None
    code_limit: Annotated[
        str, typer.Option(metavar="SIZE", help="Maximum size of the source of --model.")
    ] = "2MB"
    install: Annotated[
        bool,
        typer.Option(
            "--install",
            help="Install the requirements of the file's PEP 723 header on the server.",
        ),
    ] = False
    requirement: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Further requirement for --install, such as einops>=0.7; may be repeated.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """What updates the weights; fixed when a run is created."""

    panel: ClassVar = "Training"

    optimizer: Annotated[OptimizerName, typer.Option(help="Optimizer, one of torch.optim's.")] = (
        "adamw"
    )
    lr: Annotated[
        float, typer.Option(min=0, max=1, metavar="RATE", help="Learning rate after the warm-up.")
    ] = 1e-3
    momentum: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Momentum of sgd and rmsprop.")
    ] = 0.0
    weight_decay: Annotated[
        float, typer.Option(min=0, max=1, metavar="RATE", help="Decay of the weights.")
    ] = 0.01
    warmup_steps: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Steps over which the learning rate rises to its full value."
        ),
    ] = 3


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Where the metrics of a run are sent."""

    panel: ClassVar = "Tracking"

    logger: Annotated[
        list[str] | None,
        typer.Option(
            "--logger",
            metavar="NAME",
            help="Send the metrics to mlflow, wandb, trackio or your own package.module:Class; may "
            "be repeated.",
        ),
    ] = None
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard/--no-tensorboard",
            help="Write TensorBoard event files to the run folder.",
        ),
    ] = True
    report: Annotated[
        bool,
        typer.Option("--report/--no-report", help="Write a report to the run folder at the end."),
    ] = True


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """The folder of a run, and when checkpoints are downloaded to it."""

    panel: ClassVar = "Output"

    workdir: Workdir = None
    pull_checkpoints: Annotated[
        str,
        typer.Option(
            metavar="WHEN",
            help="When to download checkpoints to the run folder: never, end, or every so many "
            "minutes; auto is end on loopback after a minute of steps, else never.",
        ),
    ] = "auto"
