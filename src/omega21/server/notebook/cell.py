"""One cell: a server with its tunnel, a line to copy, and a status line while it runs.

A running cell keeps the runtime. Interrupting it stops the server cleanly.
"""

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from omega21.language import _, choose_language
from omega21.protocol.auth.token_text import check_token
from omega21.protocol.printable import printable
from omega21.server.auth.token import server_token
from omega21.server.notebook.machine import check_data_dir, default_data_dir, has_gpu
from omega21.server.notebook.problem import CannotServe
from omega21.server.notebook.process import NotebookServer, ServerSettings
from omega21.server.notebook.requirements import install_lacking
from omega21.server.tunnels.authtoken import ask_authtoken, find_authtoken, in_notebook

_STATUS_SECONDS: Final = 5.0


def run_cell(**given: Any) -> None:
    """Serve until the cell is interrupted; `given` as for `prepare`.

    An error that prevents serving is printed in one line; outside a notebook the process then ends
    with status 1.
    """
    try:
        with start(prepare(**given)) as server:
            keep_running(server)
    except CannotServe as problem:
        print(f"error: {printable(str(problem))}", file=sys.stderr)  # noqa: T201
        if not in_notebook():
            sys.exit(1)
    except KeyboardInterrupt:
        _say(_("stopped"))


def serve(model: "str | Callable[..., Any] | None" = None, **given: Any) -> None:
    """Serve, and offer a model of this machine's own, until the cell is interrupted.

    `model` is the function that builds it, from a file, or its `FILE.py:FUNCTION`; clients train it
    with `omega21 train --model server`, and no other source is executed. `given` as for `prepare`.
    """
    run_cell(model=model, **given)


def prepare(
    *,
    tunnel: str = "",
    data_dir: str = "",
    mirror: str = "",
    cloudflared: str = "",
    port: int = 0,
    language: str = "",
    allow_code: bool | str = False,
    allow_install: bool = False,
    model: "str | Callable[..., Any] | None" = None,
) -> ServerSettings:
    """Check the machine, install missing packages, and choose the settings. Raises CannotServe.

    With `allow_code` the server executes the source that is sent to it, all or that of a digest,
    and with `allow_install` it installs its requirements. `model` is a model of its own that it
    offers: the function that builds it, defined in a file, or its `FILE.py:FUNCTION`.

    Missing values are read from OMEGA21_TUNNEL (auto), OMEGA21_DATA_DIR, OMEGA21_MIRROR,
    OMEGA21_CLOUDFLARED, OMEGA21_ALLOW_CODE and OMEGA21_TOKEN.
    """
    choose_language(language or None)
    tunnel = tunnel or os.environ.get("OMEGA21_TUNNEL") or "auto"
    folder = Path(data_dir or os.environ.get("OMEGA21_DATA_DIR") or default_data_dir())
    check_data_dir(folder)
    if not has_gpu():
        _say(_("no GPU here: steps are computed on the CPU; choose a runtime with a GPU for more"))
    token, authtoken = _tokens(folder, tunnel)
    installed = install_lacking(*(["tunnel"] if authtoken else []), log=folder / "pip.log")
    if installed:
        _say(_("installed: {names}").format(names=", ".join(installed)))
    allowed = _consent(str(allow_code))
    if allowed:
        _say(
            _(
                "this server executes the source that is sent to it: whoever has its token has a "
                "shell on this machine"
            )
        )
    place = mirror or os.environ.get("OMEGA21_MIRROR")
    return ServerSettings(
        data_dir=folder,
        token=token,
        tunnel=tunnel,
        authtoken=authtoken,
        cloudflared=cloudflared or os.environ.get("OMEGA21_CLOUDFLARED") or None,
        mirror=Path(place) if place else None,
        port=port,
        allow_code=allowed,
        allow_install=allow_install,
        model=model_name(model) if callable(model) else model,
    )


def _consent(given: str) -> str:
    """Return the value of --allow-code, empty for none. Raises CannotServe."""
    # pydantic, which the errors of the protocol need, is installed by now.
    from omega21.protocol.errors import InvalidCode  # noqa: PLC0415
    from omega21.protocol.tasks.consent import Consent  # noqa: PLC0415

    texts = [given, os.environ.get("OMEGA21_ALLOW_CODE", "")]
    try:
        return ",".join(Consent.of(texts, source="ALLOW_CODE (OMEGA21_ALLOW_CODE)").texts())
    except InvalidCode as error:
        raise CannotServe(str(error)) from error


def model_name(build: "Callable[..., Any]") -> str:
    """Return a function as `FILE.py:FUNCTION`. Raises CannotServe for one without a file."""
    name = build.__qualname__
    try:
        file = inspect.getsourcefile(build)
    except TypeError:
        file = None
    if file is None or not Path(file).is_file() or not name.isidentifier():
        raise CannotServe(
            _(
                "{name} is not a function of a file: write its cell to one with %%writefile "
                "net.py, and import it from there"
            ).format(name=name)
        )
    return f"{file}:{name}"


def _tokens(folder: Path, tunnel: str) -> tuple[str, str | None]:
    """Return the server's token and ngrok's, if any. Raises CannotServe for an invalid one."""
    try:
        given = os.environ.get("OMEGA21_TOKEN")
        token = check_token(given, source="OMEGA21_TOKEN") if given else server_token(folder)
        authtoken = None if tunnel in {"none", "cloudflared"} else find_authtoken()
        if tunnel == "ngrok":
            authtoken = authtoken or ask_authtoken()
    except ValueError as error:
        raise CannotServe(str(error)) from error
    return token, authtoken


def start(settings: ServerSettings) -> NotebookServer:
    """Start the server and print the command to copy. Raises CannotServe."""
    _say(_("starting the server; this takes some seconds"))
    server = NotebookServer(settings)
    try:
        if settings.tunnel == "none":
            _say(f"omega21 train {server.address}")
            _say(
                f"token: {settings.token}"
            )  # not in the command: other users can read a program's arguments
            _say(f"dashboard: {server.address}")
        for line in server.news(wait=0 if settings.tunnel == "none" else 10):
            _say(line)
    except BaseException:  # interrupted before anybody else could stop it
        server.stop()
        raise
    return server


def keep_running(server: NotebookServer) -> None:
    """Show the server's output and status until it ends or the cell is interrupted; stop it then.

    Raises CannotServe with the server's last line if it ended by itself.
    """
    status = StatusLine(sys.stdout.write)
    try:
        while server.is_running:
            for line in server.news(wait=_STATUS_SECONDS):
                status.clear()
                _say(line)
            status.show(describe(server.ask("/runs")))
    except KeyboardInterrupt:
        status.clear()
        _say(_("stopping after the current step and a checkpoint"))
        server.stop()
        _say(_("stopped"))
        return
    status.clear()
    raise CannotServe(server.last_error())


def describe(runs: Any) -> str:
    """Describe a server's runs in one short line."""
    if runs is None:
        return _("the server is restarting")
    found = [run for run in runs["runs"] if run["plan_steps"]]
    if not found:
        return _("waiting for a run")
    busy = [run for run in found if run["state"] not in {"idle", "paused"}] or found
    run = max(busy, key=lambda one: one["plan_steps"] - one["step"])
    line = _("{run}: {state}, step {step} of {steps}").format(
        run=run["run"], state=run["state"], step=run["step"], steps=run["plan_steps"]
    )
    more = len(found) - 1
    return line if not more else line + _(" (and {count} more)").format(count=more)


class StatusLine:
    """A status line that overwrites itself; at most 79 characters, and only when it changes."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._shown = ""

    def show(self, text: str) -> None:
        """Show `text` in place of the current one."""
        text = printable(text, most=79)
        if text != self._shown:
            self._write("\r" + text.ljust(len(self._shown)))
            sys.stdout.flush()
            self._shown = text

    def clear(self) -> None:
        """Clear the line."""
        if self._shown:
            self._write("\r" + " " * len(self._shown) + "\r")
            self._shown = ""


def _say(line: str) -> None:
    print(printable(line), flush=True)  # noqa: T201
