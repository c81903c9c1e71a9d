"""A support bundle: one ZIP with everything needed to analyse a failure, without secrets.

Versions, the checks of `omega21 doctor`, the ends of the logs of both sides, the server's status,
and a run's configuration, plan and history; no samples, no weights. Each text passes a `Redactor`
before it is added, and no file is copied as bytes.
"""

import io
import json
import platform
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final

import platformdirs
from pydantic import BaseModel

from omega21.client.diagnostics.redact import Redactor
from omega21.client.store.run_folder import run_folder_path, server_data_path
from omega21.client.sync import Client
from omega21.data.durable import write_durably
from omega21.logs import CLIENT_LOG, SERVER_LOG, last_lines
from omega21.protocol.errors import OmegaError
from omega21.protocol.logs import MAX_LOG_BYTES

LOG_LINES: Final = 5000
"""Maximum number of lines of each log."""

_README: Final = """\
omega21 support bundle

versions.json   this machine's system and packages
doctor.json     what `omega21 doctor` found
client.jsonl    the end of the log of this user's commands
run/            a run's configuration, plan and history, without samples and weights; files.json
                has the bytes of each file, and of each folder the number of its entries
server/         the server's description, status and the end of its log, or why there are none

Left out: tokens, cookies and passwords (***), homes in paths (~) and this user's name (USER), and
the names of machines and tunnels, each of which has the same stand-in everywhere
(server-1.invalid, ...).
"""


def write_bundle(
    path: Path,
    *,
    client: Client | None = None,
    run: str | None = None,
    workdir: Path | None = None,
    findings: Mapping[str, Any] | None = None,
) -> None:
    """Write a bundle; the file is complete and on disk on return, readable by the user only.

    `client` is connected to the server to ask, `run` names a run on this machine, `findings` are
    added as JSON. If the server cannot be reached, the bundle says so. Raises OSError.
    """
    redactor = Redactor.of_this_machine(*([client.address] if client else []))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in _parts(client, run=run, workdir=workdir, findings=findings):
            if isinstance(text, str):
                archive.writestr(name, redactor.text(text))
            else:
                archive.writestr(name, json.dumps(redactor.document(text), indent=1, default=str))
    write_durably(path, buffer.getvalue())


def _parts(
    client: Client | None,
    *,
    run: str | None,
    workdir: Path | None,
    findings: Mapping[str, Any] | None,
) -> Iterator[tuple[str, Any]]:
    """Yield the names and contents of the bundle's files: texts, or documents."""
    yield "README.txt", _README
    yield "versions.json", _versions()
    yield "doctor.json", findings or {}
    data = platformdirs.user_data_path("omega21", appauthor=False)
    yield "client.jsonl", _log(data / CLIENT_LOG)
    if run is not None:
        yield from _run_parts(run, workdir)
    if client is not None:
        yield from _server_parts(client)


def _versions() -> dict[str, Any]:
    found: dict[str, str] = {}
    for requirement in requires("omega21") or []:
        name = requirement.partition(";")[0].strip()
        name = next((name[:at] for at, sign in enumerate(name) if sign in "[<>=!~ ("), name)
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # of an extra that is not installed
    return {
        "omega21": version("omega21"),
        "python": sys.version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": dict(sorted(found.items())),
    }


def _log(path: Path) -> str:
    return "".join(f"{line}\n" for line in last_lines(path, LOG_LINES, max_bytes=MAX_LOG_BYTES))


def _run_parts(run: str, workdir: Path | None) -> Iterator[tuple[str, Any]]:
    folder = run_folder_path(run, workdir)
    for name in ("run.json", "plan.json"):
        if (folder / name).exists():
            yield f"run/{name}", _without_lists(json.loads((folder / name).read_bytes()))
    yield "run/log.jsonl", _log(folder / "log.jsonl")
    if folder.is_dir():
        sizes = {
            path.name: len(list(path.iterdir())) if path.is_dir() else path.stat().st_size
            for path in sorted(folder.iterdir())
        }
        yield "run/files.json", sizes
    local_data = server_data_path(run, workdir)
    if local_data.is_dir():
        yield "run/server.jsonl", _log(local_data / SERVER_LOG)


def _without_lists(document: Any) -> Any:
    """Replace a segment's list of up to 100,000 shards by their number."""
    if not isinstance(document, dict):
        return document
    segments = [
        {**segment, "shards": len(segment.get("shards", ()))}
        for segment in document.get("segments", ())
    ]
    return {**document, "segments": segments} if segments else document


def _server_parts(client: Client) -> Iterator[tuple[str, Any]]:
    asked: dict[str, Callable[[], BaseModel | tuple[BaseModel, ...]]] = {
        "info": client.info,
        "status": client.status,
        "runs": client.runs,
    }
    for name, ask in asked.items():
        try:
            reply = ask()
        except OmegaError as error:
            yield f"server/{name}.txt", f"{type(error).__name__}: {error}\n"
        else:
            several = reply if isinstance(reply, tuple) else (reply,)
            yield f"server/{name}.json", [each.model_dump(mode="json") for each in several]
    try:
        lines = client.logs(LOG_LINES).lines
    except OmegaError as error:
        yield "server/log.txt", f"{type(error).__name__}: {error}\n"
    else:
        yield "server/log.jsonl", "".join(f"{line}\n" for line in lines)
