"""The token of a server: 256 random bits, made once for a data folder and kept in it."""

import secrets
from pathlib import Path
from typing import Final

from omega21.data.durable import write_durably
from omega21.language import _
from omega21.protocol.errors import RunFolderConflict

TOKEN_FILE: Final = "token"  # noqa: S105 - the file's name
_BYTES: Final = 32


def server_token(data_dir: Path) -> str:
    """Return the token kept in `data_dir`, made and on disk when there was none.

    Only the user can read its file. Raises RunFolderConflict for one that holds no token.
    """
    path = data_dir / TOKEN_FILE
    if path.exists():
        token = path.read_text(encoding="utf-8", errors="replace").strip()
        if not token or not token.isascii() or not token.isprintable():
            raise RunFolderConflict(
                _("{path} does not hold a token").format(path=path),
                hint=_("remove it, and another one is made at the next start"),
            )
        return token
    data_dir.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(_BYTES)
    write_durably(path, f"{token}\n".encode("ascii"), private=True)
    return token
