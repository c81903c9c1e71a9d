"""Options that several commands share, and the ways in which their values are written.

Nothing here imports more than typer: `omega21 --help` reads this file.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from omega21.cli.values import MOST_SECONDS, MOST_WHOLE
from omega21.language import _

if TYPE_CHECKING:
    from omega21.client.training.checkpoint_download import Pull
    from omega21.client.training.request import EvaluateEvery

DEFAULT_ADDRESS: Final = "http://127.0.0.1:8000"
"""Where `omega21 serve` listens when it is told nothing else."""

KindName = Literal["simple", "temporal", "neuronal"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
TunnelName = Literal["auto", "ngrok", "cloudflared", "none"]
SamplesTypeName = Literal["float32", "float16"]

Address = Annotated[
    str | None,
    typer.Argument(
        metavar="URL",
        envvar="COLAB_SERVER_URL",
        help="The server's address; without one, the server used last.",
    ),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", envvar="COLAB_SERVER_URL", help="The server's address."),
]
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
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        envvar="OMEGA21_CA",
        help="Trust these certificate authorities (PEM) too.",
    ),
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
PullCheckpoints = Annotated[
    str,
    typer.Option(
        metavar="WHEN",
        help="Pull checkpoints into the run folder: never, end, or every so many minutes; auto is "
        "end on loopback after a minute of steps, else never.",
    ),
]
EvaluateWhen = Annotated[
    str,
    typer.Option(
        "--evaluate-every",
        "--evaluar-cada",
        metavar="WHEN",
        help="Score held-out samples on the way: every so many steps, never, or epoch: at the ends "
        "of epochs, where that takes no more than a tenth of the time.",
    ),
]
Loggers = Annotated[
    list[str] | None,
    typer.Option(
        "--logger",
        metavar="NAME",
        help="Hand the figures to mlflow, wandb, trackio, or your own package.module:Class; may be "
        "given more than once.",
    ),
]
TensorBoard = Annotated[
    bool,
    typer.Option(
        "--tensorboard/--no-tensorboard",
        help="Write event files for TensorBoard into the run folder.",
    ),
]
ReportAtEnd = Annotated[
    bool,
    typer.Option("--report/--no-report", help="Write the report into the run folder at the end."),
]
Patience = Annotated[
    str, typer.Option(metavar="TIME", help="Keep trying this long to reach the server again.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
JsonLines = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON on standard output: a line for each event, then the figures."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Log every request; show the trace of an internal error."),
]

_PULLS: Final[dict[str, Literal["auto", "never", "end"]]] = {
    "auto": "auto",
    "never": "never",
    "end": "end",
}
_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def seconds(text: str, option: str, *, least: float = 0) -> float:
    """Read a length of time: 90, 90s, 30m, 1h or 1d. Raises InvalidRequest, naming `option`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]?)", text.strip().lower())
    if found is None or found[2] not in _SECONDS:
        raise _not_read(text, option, _("a length of time, such as 90s, 30m, 1h or 1d"))
    length = float(found[1]) * _SECONDS[found[2]]
    if length > MOST_SECONDS:
        raise _not_read(
            text, option, _("at most {seconds} s").format(seconds=f"{MOST_SECONDS:.0f}")
        )
    if length < least:
        raise _not_read(text, option, _("at least {seconds} s").format(seconds=f"{least:g}"))
    return length


def size(text: str, option: str) -> int:
    """Read a number of bytes: 500MB, 20GB. Raises InvalidRequest, naming `option`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", text.strip().upper())
    if found is None or found[2] not in _BYTES:
        raise _not_read(text, option, _("a number of bytes, such as 500MB or 20GB"))
    wanted = float(found[1]) * _BYTES[found[2]]
    if wanted > MOST_WHOLE:
        raise _not_read(text, option, _("at most {bytes} bytes").format(bytes=MOST_WHOLE))
    return int(wanted)


def evaluate_when(text: str) -> "EvaluateEvery":
    """Read when held-out samples are scored on the way: epoch, never, or a number of steps."""
    word = text.strip().lower()
    if word == "epoch":
        return "epoch"
    if word == "never":
        return "never"
    if re.fullmatch(r"\d{1,15}", word) and int(word) > 0:
        return int(word)
    raise _not_read(text, "--evaluate-every", _("epoch, never or a number of steps"))


def pull_policy(text: str) -> "Pull":
    """Read when checkpoints are pulled: auto, never, end, or a number of minutes."""
    word = text.strip().lower()
    if word in _PULLS:
        return _PULLS[word]
    if re.fullmatch(r"\d+(\.\d+)?", word) and float(word) > 0:
        return seconds(f"{word}m", "--pull-checkpoints")
    raise _not_read(text, "--pull-checkpoints", _("never, end, auto or a number of minutes"))


def _not_read(text: str, option: str, wanted: str) -> Exception:
    from omega21.protocol.errors import InvalidRequest

    return InvalidRequest(
        _("{option} takes {wanted}, got {text!r}").format(option=option, wanted=wanted, text=text)
    )
