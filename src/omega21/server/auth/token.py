"""The token of a server: 256 random bits, made once for a data folder and kept in it."""

import secrets
from pathlib import Path
from typing import Final

from omega21.data.durable import make_private_folder, write_durably
from omega21.protocol.auth.token_text import Token, check_token_file

TOKEN_FILE: Final = "token"  # noqa: S105 - the file's name
_BYTES: Final = 32


def server_token(data_dir: Path) -> Token:
    """Return the token kept in `data_dir`, made and on disk when there was none.

    Only the user can read its file. Raises ValueError for a file that holds something else.
    """
    path = data_dir / TOKEN_FILE
    if path.exists():
        return check_token_file(path.read_bytes(), source=str(path))
    make_private_folder(data_dir)
    token = Token(secrets.token_urlsafe(_BYTES))
    write_durably(path, f"{token}\n".encode("ascii"))
    return token
