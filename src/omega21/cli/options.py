"""Options that several commands share, each declared once: alone, or in a group.

A group is a dataclass. A command that takes one has its fields as options (`signature`), and hands
it on whole. Nothing here imports more than typer: `omega21 --help` reads this file.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import typer

if TYPE_CHECKING:
    from omega21.cli.ui.output import Output

DEFAULT_ADDRESS: Final = "http://127.0.0.1:8000"
"""Where `omega21 serve` listens when it is told nothing else."""

KindName = Literal["simple", "temporal", "neuronal"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
TunnelName = Literal["auto", "ngrok", "cloudflared", "none"]
SamplesTypeName = Literal["float32", "float16"]


def address_argument(default: str) -> Any:
    """Declare the address of a server as the first argument of a command."""
    return typer.Argument(
        metavar="URL", envvar="COLAB_SERVER_URL", help="Server address.", show_default=default
    )


def output_option(default: str | bool = True, *, text: str = "File to write.") -> Any:
    """Declare the file that a command writes."""
    return typer.Option("--output", "-o", metavar="FILE", help=text, show_default=default)


Token = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        envvar="OMEGA21_TOKEN",
        help="Server token; other users of this machine can see it here, so prefer --token-file.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="File with the server token."),
]
Timeout = Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Read timeout in seconds.")]
Run = Annotated[str, typer.Option("--run", metavar="NAME", help="Name of the run.")]
RunOrNewest = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="Name of the run.",
        show_default="your newest run on the server",
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]
NewestRunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN", help="Name of the run.", show_default="the newest run on this machine"
    ),
]
Workdir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder of the run folders.", show_default="in the user's data folder"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Log every request; print the traceback of an internal error."
    ),
]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The server of a command, and how to reach it; `timeout` is in seconds."""

    panel: ClassVar = "Server"

    address: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", envvar="COLAB_SERVER_URL", help="Server address."),
    ] = None
    token: Token = field(default=None, repr=False)
    token_file: TokenFile = None
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="OMEGA21_CA",
            help="Certificate authorities to trust as well, in PEM format.",
        ),
    ] = None
    timeout: Timeout = 60


@dataclass(frozen=True, kw_only=True)
class ServerArgument(ServerOptions):
    """ServerOptions with the address as an argument."""

    address: Annotated[str | None, address_argument("the server used last")] = None


@dataclass(frozen=True, kw_only=True)
class LongServerOptions(ServerOptions):
    """The server of a command that retries after the link has failed."""

    patience: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="How long to retry when the link fails, such as 90s, 10m or 1h."
        ),
    ] = "10m"


@dataclass(frozen=True, kw_only=True)
class TrainServerOptions(LongServerOptions):
    """The server that `train` trains on."""

    address: Annotated[
        str | None,
        address_argument("the server used last, else one started on this machine"),
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
            help="Samples: a .npz or .safetensors file with x [n, 1600] and y [n].",
            show_default="synthetic samples",
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
            help="Data type for the upload of features; float16 rounds them to half the bytes.",
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
            "--fast",
            help="Allow nondeterministic kernels for speed; recorded in the run.",
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


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What a command prints."""

    panel: ClassVar = "Output"

    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False

    def open(self) -> "Output":
        """Return the output that the options describe."""
        from omega21.cli.ui.output import Output

        return Output(json=self.json, quiet=self.quiet, verbose=self.verbose)


@dataclass(frozen=True, kw_only=True)
class EventOutputOptions(OutputOptions):
    """OutputOptions of a command that prints one JSON line per event."""

    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print JSON lines on standard output: one for each event, then the result.",
        ),
    ] = False
