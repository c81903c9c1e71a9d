"""`python -m omega21.server`: the server as a child process of another program.

People use `omega21 serve`. The token is read from OMEGA21_TOKEN, since every user of a machine can
read the arguments of its processes.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import get_args

from omega21.engine.options import EngineOptions
from omega21.language import _, language_of_locale, speaking
from omega21.protocol.auth.token import optional_token
from omega21.protocol.errors import OmegaError
from omega21.protocol.link.tunnels import TunnelAsked
from omega21.protocol.printable import printable
from omega21.protocol.runs import PrecisionAsked
from omega21.protocol.tasks.consent import ANY_CODE
from omega21.server.main import serve
from omega21.server.options import ENGINE_OPTIONS, LOG_LEVELS, ServeOptions, read_consent
from omega21.server.worker_process import serve_child


def parse_arguments(arguments: list[str] | None = None) -> tuple[ServeOptions, int | None]:
    """Parse the command line: the settings, and the supervisor's socket, if any.

    An unknown or impossible option exits with status 2.
    """
    parser = argparse.ArgumentParser(prog="python -m omega21.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to")
    parser.add_argument("--port", type=int, default=8000, help="0 chooses a free one")
    parser.add_argument("--data-dir", type=Path, default=Path("omega21-data"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--precision", choices=get_args(PrecisionAsked), default="auto")
    parser.add_argument("--threads", type=int, help="threads that compute")
    parser.add_argument("--disk-limit", type=int, help="most bytes of shards")
    parser.add_argument("--step-timeout", type=float, default=EngineOptions().step_timeout)
    parser.add_argument("--max-runs", type=int, default=EngineOptions().max_runs)
    parser.add_argument("--checkpoint-seconds", type=float, default=30.0)
    parser.add_argument("--checkpoint-steps", type=int, default=500)
    parser.add_argument("--mirror", type=Path, help="folder that checkpoints are copied to")
    parser.add_argument(
        "--allow-code",
        nargs="?",
        const=ANY_CODE,
        action="append",
        default=[],
        metavar="sha256:DIGEST",
        help="execute users' source: any, or that of a digest",
    )
    parser.add_argument(
        "--allow-install", action="store_true", help="install the requirements of users' source"
    )
    parser.add_argument("--model", help="offer this source: package.module:function")
    parser.add_argument("--offer", action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--socket-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tunnel", choices=get_args(TunnelAsked), default="none")
    parser.add_argument("--cloudflared", help="path of the program, or URL#sha256=DIGEST")
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info")
    parser.add_argument(
        "--stop-with-stdin", action="store_true", help="stop when standard input ends"
    )
    given = parser.parse_args(arguments)
    options = ServeOptions(
        data_dir=given.data_dir,
        host=given.host,
        port=given.port,
        token=optional_token(os.environ.get("OMEGA21_TOKEN"), source="OMEGA21_TOKEN"),
        engine=EngineOptions(
            **{name: getattr(given, name) for name in ENGINE_OPTIONS},
            restarts=int(os.environ.get("OMEGA21_RESTARTS", "0")),
            last_death=os.environ.get("OMEGA21_LAST_DEATH") or None,
            allow_code=read_consent(given.allow_code),
            allow_install=given.allow_install,
            offers=tuple((one.split("=")[0], one.split("=")[1]) for one in given.offer),
        ),
        tunnel=given.tunnel,
        cloudflared=given.cloudflared,
        log_level=given.log_level,
        stop_with_stdin=given.stop_with_stdin,
        model=given.model,
    )
    return options, given.socket_fd


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; return the exit status."""
    with speaking(language_of_locale()):  # the language of the user who starts it, not of a caller
        try:
            options, descriptor = parse_arguments(arguments)
            if descriptor is None:
                serve(options)
            else:
                serve_child(options, descriptor)
        except OmegaError as error:
            sys.stderr.write(_("error: {text}").format(text=printable(str(error))) + "\n")
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
