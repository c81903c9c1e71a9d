"""The token of a server: 256 random bits, generated once and stored in the data folder."""

import secrets
from pathlib import Path
from typing import Final

from omega21.data.durable import make_private_folder, write_durably
from omega21.protocol.auth.token_text import Token, check_token_file

TOKEN_FILE: Final = "token"  # noqa: S105 - the file's name
_BYTES: Final = 32


def server_token(data_dir: Path) -> Token:
    """Return the token stored in `data_dir`; generate and store it if there is none.

    Its file is readable by the user only. Raises ValueError for a file with anything else.
    """
    path = data_dir / TOKEN_FILE
    if path.exists():
        return check_token_file(path.read_bytes(), source=str(path))
    make_private_folder(data_dir)
    token = Token(secrets.token_urlsafe(_BYTES))
    write_durably(path, f"{token}\n".encode("ascii"))
    return token
