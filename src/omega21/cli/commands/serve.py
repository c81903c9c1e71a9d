"""`omega21 serve`: a server on this machine, until it is stopped."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import typer

from omega21.cli.options import PrecisionName, Token, TokenFile, TunnelName
from omega21.cli.values import seconds, size
from omega21.language import _

LogLevel = Literal["debug", "info", "warning", "error"]

EXAMPLES: Final = """
# Serve on this machine only
omega21 serve
# Serve through a tunnel; the command for the other machine is printed
omega21 serve --tunnel auto
# Keep a copy of the checkpoints on a mounted drive
omega21 serve --mirror /content/drive/MyDrive/omega21
# Execute the models that the token's owner sends
omega21 serve --tunnel auto --allow-code
"""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Where the server listens, and the token that it requires."""

    panel: ClassVar = "Network"

    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on; any but loopback requires a token."
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65_535, metavar="N", help="Port to listen on; 0 chooses a free one."
        ),
    ] = 8000
    token: Token = field(default=None, repr=False)
    token_file: TokenFile = None
    tunnel: Annotated[
        TunnelName,
        typer.Option(
            envvar="OMEGA21_TUNNEL",
            help="Tunnel to a public address, which requires a token: ngrok, cloudflared, or auto, "
            "the first of them that is available.",
        ),
    ] = "none"
    cloudflared: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            envvar="OMEGA21_CLOUDFLARED",
            help="Path of cloudflared, or URL#sha256=DIGEST to download it.",
            show_default="the one on PATH",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """The device and the precision of the server."""

    panel: ClassVar = "Compute"

    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Device: auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps.",
        ),
    ] = "auto"
    precision: Annotated[
        PrecisionName, typer.Option(help="Precision of runs that ask for auto.")
    ] = "auto"
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Number of CPU threads.", show_default="one per core"
        ),
    ] = None
    step_timeout: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Maximum time of a step, such as 90s or 2h; its process is then ended.",
        ),
    ] = "30m"


@dataclass(frozen=True, kw_only=True)
class StorageOptions:
    """What the server stores, and where."""

    panel: ClassVar = "Storage"

    data_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for runs, samples and results.")
    ] = Path("omega21-data")
    disk_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Maximum disk space for samples, such as 20GB.",
            show_default="80 % of the free space",
        ),
    ] = None
    max_runs: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum number of runs.")] = 64
    checkpoint_seconds: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="Maximum time between two checkpoints, in seconds."
        ),
    ] = 30.0
    checkpoint_steps: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Maximum number of steps between two checkpoints, where writing one is cheap.",
        ),
    ] = 500
    mirror: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="OMEGA21_MIRROR",
            help="Second folder for checkpoints, such as a mounted drive; an empty --data-dir is "
            "restored from it.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class CodeOptions:
    """Users' source that the server executes."""

    panel: ClassVar = "Code"

    allow_code: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[sha256:DIGEST]",
            help="Execute the source of models that users send, of any or of a digest (may be "
            "repeated). The token is then a shell on this machine. OMEGA21_ALLOW_CODE does the "
            "same.",
            show_default="none",
        ),
    ] = None
    allow_install: Annotated[
        bool,
        typer.Option(
            "--allow-install",
            help="Install the requirements of allowed source with pip, beside the server's own "
            "packages.",
        ),
    ] = False
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Offer your own model, as package.module:FUNCTION or FILE.py:FUNCTION; clients "
            "train it with --model server.",
        ),
    ] = None


def serve(
    *,
    network: NetworkOptions,
    compute: ComputeOptions,
    storage: StorageOptions,
    code: CodeOptions,
    log_level: Annotated[LogLevel, typer.Option(help="Lowest level of the log.")] = "info",
    stop_with_stdin: Annotated[
        bool,
        typer.Option("--stop-with-stdin", hidden=True, help="Stop when standard input ends."),
    ] = False,
) -> None:
    """Serve runs on this machine's GPU or CPU until it is stopped.

    Prints one line on standard output when it listens and, behind a tunnel, the command to type on
    the other machine, again whenever the tunnel's address changes. Logs go to standard error.
    Ctrl-C or SIGTERM finishes the current step and writes a checkpoint. A process that dies is
    replaced, and continues from its newest checkpoint.
    """
    from omega21.cli.servers import given_token
    from omega21.protocol.errors import NotOnThisServer

    limit = None if storage.disk_limit is None else size(storage.disk_limit, "--disk-limit")
    try:
        from omega21.engine.options import EngineOptions
        from omega21.server.main import serve as serve_until_stopped
        from omega21.server.options import ENGINE_OPTIONS, ServeOptions, read_consent
    except ModuleNotFoundError as error:
        raise NotOnThisServer(
            _("a server needs {name}, which is not installed").format(name=error.name),
            hint=_("in your copy of the repository: pip install '.[server]'"),
        ) from error

    timeout = seconds(compute.step_timeout, "--step-timeout")
    engine = {**asdict(compute), **asdict(storage), "disk_limit": limit, "step_timeout": timeout}
    program = network.cloudflared  # a path, or a URL
    serve_until_stopped(
        ServeOptions(
            data_dir=storage.data_dir,
            host=network.host,
            port=network.port,
            token=given_token(network.token, network.token_file),
            engine=EngineOptions(
                **{name: engine[name] for name in ENGINE_OPTIONS},
                allow_code=read_consent(code.allow_code),
                allow_install=code.allow_install,
            ),
            tunnel=network.tunnel,
            cloudflared=program and os.path.expanduser(program),  # noqa: PTH111
            log_level=log_level,
            model=code.model,
            stop_with_stdin=stop_with_stdin,
        )
    )
