"""`omega21 serve`: a server on this machine, until it is stopped."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from omega21.cli.options import PrecisionName, Token, TokenFile, TunnelName
from omega21.cli.values import size
from omega21.language import _

LogLevel = Literal["debug", "info", "warning", "error"]


def serve(
    *,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; others than this machine's own need a token.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 finds a free one.")
    ] = 8000,
    data_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for runs, samples and results.")
    ] = Path("omega21-data"),
    token: Token = None,
    token_file: TokenFile = None,
    tunnel: Annotated[
        TunnelName,
        typer.Option(
            envvar="OMEGA21_TUNNEL",
            help="What brings the port to the outside, with a token in any case: ngrok, "
            "cloudflared, or auto, the first of them that can be used here.",
        ),
    ] = "none",
    cloudflared: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            envvar="OMEGA21_CLOUDFLARED",
            help="Path of cloudflared, or URL#sha256=DIGEST to download it.",
            show_default="the one on PATH",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Device that computes: auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps.",
        ),
    ] = "auto",
    precision: Annotated[
        PrecisionName, typer.Option(help="Precision for runs that ask for auto.")
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that compute.", show_default="one for each core"),
    ] = None,
    disk_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Most bytes that samples may take, such as 20GB.",
            show_default="80 % of what is free",
        ),
    ] = None,
    max_runs: Annotated[int, typer.Option(min=1, help="Most runs that are held.")] = 64,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=1, help="Longest time between two checkpoints of a run.")
    ] = 30.0,
    checkpoint_steps: Annotated[
        int, typer.Option(min=1, help="Most steps between them, where they are cheap.")
    ] = 500,
    mirror: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="OMEGA21_MIRROR",
            help="Copy checkpoints here too, such as to a mounted drive; an empty --data-dir is "
            "filled from it.",
        ),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged.")] = "info",
    stop_with_stdin: Annotated[
        bool,
        typer.Option("--stop-with-stdin", hidden=True, help="Stop when standard input ends."),
    ] = False,
) -> None:
    """Serve runs on this machine's GPU or CPU until it is stopped.

    Prints one line on standard output when it listens, and behind a tunnel the command to type
    elsewhere, whole; when the address of the tunnel changes, the next one. Logs go to standard
    error. Ctrl-C or SIGTERM lets it finish the step under way and write a checkpoint. A process
    that dies is replaced, and goes on from its newest checkpoint.
    """
    from omega21.cli.servers import given_token
    from omega21.protocol.errors import NotOnThisServer

    limit = None if disk_limit is None else size(disk_limit, "--disk-limit")
    try:
        from omega21.engine.options import EngineOptions
        from omega21.server.main import ServeOptions
        from omega21.server.main import serve as serve_until_stopped
    except ModuleNotFoundError as error:
        raise NotOnThisServer(
            _("a server needs {name}, which is not installed").format(name=error.name),
            hint=_("in your copy of the repository: pip install '.[server]'"),
        ) from error

    serve_until_stopped(
        ServeOptions(
            data_dir=data_dir,
            host=host,
            port=port,
            token=given_token(token, token_file),
            engine=EngineOptions(
                device=device,
                precision=precision,
                threads=threads,
                disk_limit=limit,
                max_runs=max_runs,
                checkpoint_seconds=checkpoint_seconds,
                checkpoint_steps=checkpoint_steps,
                mirror=mirror,
            ),
            tunnel=tunnel,
            cloudflared=cloudflared and os.path.expanduser(cloudflared),  # noqa: PTH111 - or a URL
            log_level=log_level,
            stop_with_stdin=stop_with_stdin,
        )
    )
