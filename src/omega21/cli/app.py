"""`omega21`: the commands, and the boundary where an error becomes a line and an exit status.

Commands import late: this file and those that it names load typer and nothing of the client, the
server or the model, so that `omega21 --help` answers at once.
"""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from omega21.cli.commands import (
    checkpoint,
    demo,
    diagnose,
    doctor,
    export,
    feedback,
    forget,
    generate,
    init,
    logs,
    metrics,
    predict,
    report,
    resume,
    runs,
    serve,
    status,
    train,
    verify,
    watch,
)
from omega21.cli.commands.serve import LogLevel
from omega21.cli.signature import command
from omega21.language import choose_language

app = typer.Typer(
    name="omega21",
    help="Train on a remote, disposable GPU from a local PC.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: half the time to start, and one text for the docs
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
command(app, examples=train.EXAMPLES)(train.train)
command(app, examples=resume.EXAMPLES)(resume.resume)
command(app, examples=watch.EXAMPLES)(watch.watch)
command(app, examples=serve.EXAMPLES)(serve.serve)
command(app)(demo.demo)
command(app)(status.status)
command(app)(logs.logs)
command(app)(metrics.metrics)
command(app)(diagnose.diagnose)
command(app)(feedback.feedback)
command(app, examples=generate.EXAMPLES)(generate.generate)
command(app, examples=init.EXAMPLES)(init.init)
command(app, examples=predict.EXAMPLES)(predict.predict)
command(app)(report.report)
command(app, examples=verify.EXAMPLES)(verify.verify)
command(app)(forget.forget)
command(app, examples=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(checkpoint.app, name="checkpoint")
app.add_typer(export.app, name="export")
app.add_typer(runs.app, name="runs")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"omega21 {version('omega21')}")
        raise typer.Exit


def _log_to_file(level: str, *, command: str) -> None:
    """Log what this command does, beside the run folders."""
    import logging
    from importlib.metadata import version

    import platformdirs

    from omega21.logs import CLIENT_LOG, log_to_file

    folder = platformdirs.user_data_path("omega21", appauthor=False)
    log_to_file(folder / CLIENT_LOG, level=level, logger="omega21")
    logging.getLogger("omega21.cli").info("omega21 %s, version %s", command, version("omega21"))


@app.callback()
def omega21(
    context: typer.Context,
    *,
    _lang: Annotated[
        Literal["en", "es"] | None,
        typer.Option(
            "--lang", help="Language of the output.", show_default="the locale's, else English"
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
    log_level: Annotated[
        LogLevel,
        typer.Option(
            "--log-level",
            envvar="OMEGA21_LOG_LEVEL",
            help="Lowest level of the log file, which `omega21 doctor --bundle` includes.",
        ),
    ] = "info",
) -> None:
    """Train on a remote, disposable GPU from a local PC."""
    if context.invoked_subcommand not in (None, "serve"):  # a server has a log of its own
        _log_to_file(log_level, command=str(context.invoked_subcommand))
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; errors are printed on standard error."""
    from omega21.cli.values import check_values

    program = typer.main.get_command(app)
    check_values(program)
    asked = _language_asked(arguments)
    if choose_language(asked) != "en":
        from omega21.cli.ui.help import translate_help

        translate_help(program)
    try:
        status = program(arguments, prog_name="omega21", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the boundary: every error becomes a line here
        from omega21.cli.errors import report

        choose_language(asked)  # --json had English spoken
        return report(error)
    return status if isinstance(status, int) else 0


def _language_asked(arguments: Sequence[str]) -> str | None:
    """Return the value of --lang, read first: errors in the other arguments depend on it."""
    for place, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name == "--lang":
            return value if separator else next(iter(arguments[place + 1 :]), None)
        if not argument.startswith("-"):
            break
    return None


def _make_streams_safe() -> None:
    """Open standard streams that are closed, and print "?" for characters that cannot be encoded.

    The number of a closed stream would be given to the next file or socket that is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            assert opened == number
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115 - it stays
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115 - it stays
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115 - it stays
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def main() -> None:
    """Run the command line of this process."""
    from omega21.data.durable import keep_to_user

    _make_streams_safe()
    keep_to_user()
    sys.exit(run(sys.argv[1:]))
