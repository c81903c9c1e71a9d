"""The servers that were used from this machine: their addresses and tokens.

One small private file for each server, so that concurrent commands do not overwrite each other's.
The environment variable OMEGA21_SERVERS names another folder; if it is empty, nothing is stored. A
token is stored for one address, and is never sent to another one.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Final

import platformdirs
from pydantic import Field, ValidationError

from omega21.client.store.kept_paths import KeptPath
from omega21.data.durable import make_private_folder, write_durably
from omega21.language import _
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.messages import Document

SERVERS_FOLDER: Final = "OMEGA21_SERVERS"
MOST_REMEMBERED: Final = 20

_FORMAT: Final = 1


class RememberedServer(Document):
    """A stored server; its file is named by the digest of its address."""

    format: int = _FORMAT
    address: str
    token: str | None = Field(default=None, repr=False)
    ca: KeptPath | None = Field(default=None, description="a PEM file of authorities to trust")
    server_id: str | None = None
    used_at: float = Field(description="seconds since 1970")


def servers_folder() -> Path | None:
    """Return the folder of the stored servers; None if nothing is stored."""
    given = os.environ.get(SERVERS_FOLDER)
    if given is not None:
        return Path(given).expanduser() if given else None
    return platformdirs.user_data_path("omega21", appauthor=False) / "servers"


def remember(
    address: str,
    *,
    token: str | None = None,
    ca: Path | None = None,
    server_id: str | None = None,
) -> None:
    """Store a server as the one used last; on disk when it returns. Raises OSError."""
    folder = servers_folder()
    if folder is None:
        return
    known = next((server for server in remembered(folder) if server.address == address), None)
    if server_id is None and known is not None:
        server_id = known.server_id
    server = RememberedServer(
        address=address,
        token=token,
        ca=None if ca is None else str(ca.absolute()),
        server_id=server_id,
        used_at=time.time(),
    )
    make_private_folder(folder)
    data = server.model_dump_json(indent=1).encode()
    write_durably(_file(folder, address), data)
    for old in remembered(folder)[MOST_REMEMBERED:]:
        _file(folder, old.address).unlink(missing_ok=True)


def remembered(folder: Path | None = None) -> list[RememberedServer]:
    """Return the stored servers, the one used last first.

    Raises InvalidRequest for a file that cannot be read.
    """
    folder = folder or servers_folder()
    if folder is None:
        return []
    found = (_read(path) for path in folder.glob("*.json"))
    servers = [server for server in found if server is not None]
    return sorted(servers, key=lambda server: server.used_at, reverse=True)


def newest_address(server_id: str | None, *, last: str | None = None) -> str | None:
    """Return the newest address of a server, whatever it was before.

    Another server could claim the same id: if the one at `last` is known, a newer address counts
    only if its token was accepted there too.
    """
    if server_id is None:
        return None
    servers = remembered()
    known = next((one for one in servers if one.address == last), None)
    return next(
        (
            one.address
            for one in servers
            if one.server_id == server_id and (known is None or one.token == known.token)
        ),
        None,
    )


def forget(address: str | None = None) -> int:
    """Remove the server at `address`, or all; return their number. Raises OSError."""
    folder = servers_folder()
    if folder is None:
        return 0
    paths = list(folder.glob("*.json"))
    if address is not None:
        paths = [path for path in paths if path == _file(folder, address)]
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _file(folder: Path, address: str) -> Path:
    return folder / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.json"


def _read(path: Path) -> RememberedServer | None:
    """Read a server's file; None when it has just been removed."""
    try:
        text = path.read_bytes()
        if json.loads(text)["format"] <= _FORMAT:
            return RememberedServer.parse_lenient(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
        raise InvalidRequest(
            _("{path} cannot be read: {error}").format(path=path, error=type(error).__name__),
            hint=_("`omega21 forget` removes what is stored"),
        ) from error
    raise InvalidRequest(
        _("{path} was written by a newer omega21").format(path=path),
        hint=_("`omega21 forget` removes what is stored"),
    )
