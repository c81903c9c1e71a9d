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
