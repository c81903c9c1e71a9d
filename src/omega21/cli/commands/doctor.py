"""`omega21 doctor`: checks everything that training needs, and says what to do."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from omega21.cli.options import (
    OutputOptions,
    ServerArgument,
    ServerOptions,
    Timeout,
    Workdir,
    output_option,
)
from omega21.language import _, ngettext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rich.text import Text

    from omega21.cli.ui.output import Output
    from omega21.client.diagnostics.checks import Check

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "not checked": "dim"}

EXAMPLES: Final = """
# This machine, and the server used last
omega21 doctor
# The same, with a bundle for a support request
omega21 doctor --bundle
"""


@dataclass(frozen=True, kw_only=True)
class DoctorServerOptions(ServerArgument):
    """The server that is checked; the timeout is shorter than elsewhere."""

    timeout: Timeout = 20


def doctor(
    *,
    bundle: Annotated[
        bool,
        typer.Option(
            "--bundle",
            help="Also write a support bundle: a ZIP of logs, versions and state, without secrets.",
        ),
    ] = False,
    file: Annotated[Path, output_option(text="Path of the bundle.")] = Path("omega21-bundle.zip"),
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="NAME", help="Run on this machine to include in the bundle."),
    ] = None,
    workdir: Workdir = None,
    server: DoctorServerOptions,
    output: OutputOptions,
) -> None:
    """Check everything that training needs.

    From Python on this machine to the GPU of the server. Each check is ok, a warning, failed, or
    not made because of another one, with what to do. Measuring the link takes 2 MB. Exits with 0
    when nothing failed, else with the status of the first error.
    """
    import anyio

    from omega21.cli.ui.output_files import check_output

    out = output.open()
    if bundle:
        check_output(file)
    made = anyio.run(_show, _examination(server, workdir, out), out)
    failed = [check for check in made if check.state == "failed"]
    warnings = sum(check.state == "warning" for check in made)
    document = {"ok": not failed, "checks": [_document(check) for check in made]}
    out.result(document, _verdict(made, failed=len(failed), warnings=warnings))
    if bundle:
        from omega21.cli.bundle import bundle as write

        write(file, findings=document, server=server, run=run, workdir=workdir)
        text = _("the support bundle is {path}: check its contents before you send it")
        out.info(text.format(path=file))
    if failed:
        raise typer.Exit(failed[0].exit_code)


def _examination(
    options: ServerOptions, workdir: Path | None, output: "Output"
) -> "AsyncIterator[Check]":
    """Prepare the checks of the server given, else of the one used last, else of this machine."""
    from omega21.cli.servers import find_server
    from omega21.client.diagnostics.doctor import Examination
    from omega21.client.known_servers import remembered
    from omega21.client.store.run_folder import runs_folder
    from omega21.protocol.errors import InvalidAddress

    folder, timeout = runs_folder(workdir).absolute(), options.timeout
    try:
        server = find_server(options, output)
    except InvalidAddress:  # which the check of the address tells
        return Examination(options.address, folder=folder, timeout=timeout).run()
    if server is None:
        return Examination(None, folder=folder, timeout=timeout).run()
    known = (one.server_id for one in remembered() if one.address == server.address)
    return Examination(
        server.address,
        token=server.token,
        proof_needed=not server.is_token_remembered,
        ca=server.ca,
        known_id=next(known, None),
        folder=folder,
        timeout=timeout,
    ).run()


async def _show(checks: "AsyncIterator[Check]", output: "Output") -> "list[Check]":
    """Run the checks, and print each one when it is finished."""
    made = []
    async for check in checks:
        output.details(_line(check))
        made.append(check)
    return made


def _line(check: "Check") -> "Text":
    from rich.text import Text

    states = {
        "ok": _("ok"),
        "warning": _("warning"),
        "failed": _("failed"),
        "not checked": _("not checked"),
    }
    width = max(map(len, states.values())) + 2
    line = Text.assemble(
        (states[check.state].ljust(width), _STYLES[check.state]),
        _label(check.name).ljust(13),
        check.found,
    )
    if check.advice:
        line.append(f"\n{'':{width}}{'':13}-> {check.advice}")
    return line


def _label(name: str) -> str:
    labels = {
        "python": _("Python"),
        "packages": _("packages"),
        "disk": _("disk"),
        "address": _("address"),
        "name": _("name"),
        "tls": _("TLS"),
        "tunnel": _("tunnel"),
        "token": _("token"),
        "versions": _("versions"),
        "identity": _("identity"),
        "clock": _("clock"),
        "gpu": _("GPU"),
        "memory": _("memory"),
        "self-test": _("self-test"),
        "server disk": _("disk there"),
        "round trip": _("round trip"),
        "rate": _("rate"),
        "quota": _("quota"),
    }
    return labels[name]


def _verdict(made: "list[Check]", *, failed: int, warnings: int) -> str:
    if failed:
        return _("failed: {failed}; warnings: {warnings}").format(failed=failed, warnings=warnings)
    if warnings:
        return ngettext(
            "it works, with {warnings} warning", "it works, with {warnings} warnings", warnings
        ).format(warnings=warnings)
    if any(check.name == "address" and check.state == "not checked" for check in made):
        return _("this machine is set up correctly; give an address to check a server")
    return _("everything works")


def _document(check: "Check") -> "dict[str, object]":
    return {
        "name": check.name,
        "state": check.state,
        "found": check.found,
        "advice": check.advice,
        "exit_code": check.exit_code,
        "figures": dict(check.figures),
    }
