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


def address_argument(help_text: str) -> Any:
    """Declare the address of a server as the first argument of a command."""
    return typer.Argument(metavar="URL", envvar="COLAB_SERVER_URL", help=help_text)


def output_option(help_text: str) -> Any:
    """Declare the file that a command writes."""
    return typer.Option("--output", "-o", metavar="FILE", help=help_text)


Token = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        envvar="OMEGA21_TOKEN",
        help="The server's token; others can read it here, so better let it be asked for.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="A file that holds the token."),
]
Timeout = Annotated[
    float, typer.Option(min=1, metavar="SECONDS", help="Longest wait without receiving data.")
]
Run = Annotated[str, typer.Option("--run", metavar="NAME", help="The run.")]
RunOrNewest = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="NAME", help="The run; without one, the newest of yours that is there."
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's name.")]
Workdir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the run folders, in place of the user's own."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Log every request; show the trace of an internal error."),
]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Which server is meant, and how it is reached; `timeout` is in seconds."""

    panel: ClassVar = "Server"

    address: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", envvar="COLAB_SERVER_URL", help="The server's address."
        ),
    ] = None
    token: Token = field(default=None, repr=False)
    token_file: TokenFile = None
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="OMEGA21_CA",
            help="Trust these certificate authorities (PEM) too.",
        ),
    ] = None
    timeout: Timeout = 60


@dataclass(frozen=True, kw_only=True)
class ServerArgument(ServerOptions):
    """The same, with the address as an argument."""

    address: Annotated[
        str | None, address_argument("The server's address; without one, the server used last.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class LongServerOptions(ServerOptions):
    """The server of a command that goes on for long, and outlives a link that breaks."""

    patience: Annotated[
        str, typer.Option(metavar="TIME", help="Keep trying this long to reach the server again.")
    ] = "10m"


@dataclass(frozen=True, kw_only=True)
class TrainServerOptions(LongServerOptions):
    """The server that `train` trains on."""

    address: Annotated[
        str | None,
        address_argument(
            "The server's address; without one, the server used last, or, if there is none, "
            "one started on this machine for the length of the run."
        ),
    ] = None
    local: Annotated[
        bool,
        typer.Option(
            "--local", help="Train on this machine, whatever server is named or was used last."
        ),
    ] = False
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", "--diagnostico", help="Let the server test itself first."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The samples of a training, and how they go up."""

    panel: ClassVar = "Data"

    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Train the samples of a .npz or .safetensors file with tensors x and y.",
        ),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            "--muestras",
            min=1,
            metavar="N",
            help="Samples to train: 500, or of a file all that are not held out.",
        ),
    ] = None
    kind: Annotated[
        KindName | None,
        typer.Option("--kind", "--tipo", help="Kind of synthetic samples (default: simple)."),
    ] = None
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
    ] = None
    validation: Annotated[
        int,
        typer.Option(
            "--validation",
            "--validacion",
            min=0,
            metavar="N",
            help="Samples held out, scored at the end; 0 for none.",
        ),
    ] = 1000
    samples_type: Annotated[
        SamplesTypeName | None,
        typer.Option(
            "--samples-type",
            help="What features go up as: float32, or float16, about half the bytes, rounded.",
        ),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="SIZE",
            help="Most bytes over the link, such as 300MB: what is smaller is chosen to keep it, "
            "float16 among others, or the training is refused.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How the samples of a training are used."""

    panel: ClassVar = "Training"

    run: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The run: made if it is not there, else its unfinished samples are finished, "
            "or new ones appended. Without it, a run with a fresh name.",
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Settings by name, which explicit options override: prueba_rapida, "
            "entrenamiento_estandar, deteccion_anomalias, entrenamiento_pesado.",
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", "--lote", min=1, metavar="N", help="Batch size (default: 64)."
        ),
    ] = None
    epochs: Annotated[
        int,
        typer.Option(
            "--epochs", "--epocas", min=1, metavar="N", help="Times that each sample is used."
        ),
    ] = 1
    seed: Annotated[
        int,
        typer.Option(
            "--seed", "--semilla", min=0, metavar="N", help="Seed of the run and of its samples."
        ),
    ] = 42
    evaluate_every: Annotated[
        str,
        typer.Option(
            "--evaluate-every",
            "--evaluar-cada",
            metavar="WHEN",
            help="Score held-out samples on the way: every so many steps, never, or epoch: at the "
            "ends of epochs, where that takes no more than a tenth of the time.",
        ),
    ] = "epoch"
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="Give up equal bits for speed where the device offers it; the run is marked.",
        ),
    ] = False
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            "--cada",
            metavar="TIME",
            help="Train the run's next samples again and again, starting every 30m, 1h or 1d.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """What is made of a training's metrics."""

    panel: ClassVar = "Tracking"

    logger: Annotated[
        list[str] | None,
        typer.Option(
            "--logger",
            metavar="NAME",
            help="Hand the figures to mlflow, wandb, trackio, or your own package.module:Class; "
            "may be given more than once.",
        ),
    ] = None
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard/--no-tensorboard",
            help="Write event files for TensorBoard into the run folder.",
        ),
    ] = True
    report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report", help="Write the report into the run folder at the end."
        ),
    ] = True


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """The folder of a run, and whether checkpoints are kept in it."""

    panel: ClassVar = "Output"

    workdir: Workdir = None
    pull_checkpoints: Annotated[
        str,
        typer.Option(
            metavar="WHEN",
            help="Pull checkpoints into the run folder: never, end, or every so many minutes; auto "
            "is end on loopback after a minute of steps, else never.",
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
        """Return what the command writes with."""
        from omega21.cli.ui.output import Output

        return Output(json=self.json, quiet=self.quiet, verbose=self.verbose)


@dataclass(frozen=True, kw_only=True)
class EventOutputOptions(OutputOptions):
    """The same, for a command whose JSON has a line for each event."""

    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print JSON on standard output: a line for each event, then the figures.",
        ),
    ] = False
