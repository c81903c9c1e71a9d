"""Checks of output files, before a command does its work."""

import os
from collections.abc import Sequence
from pathlib import Path

from omega21.language import _
from omega21.protocol.errors import InvalidRequest


def check_output(path: Path, *, suffixes: Sequence[str] = ()) -> None:
    """Check that a file can be written there, and that it ends in one of `suffixes`.

    Raises InvalidRequest. The folder may still change afterwards.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise InvalidRequest(
            _("{path} has to end in {suffixes}").format(path=path, suffixes=" or ".join(suffixes))
        )
    folder = path.parent
    if path.is_dir():
        raise InvalidRequest(_("{path} is a folder").format(path=path))
    if not folder.is_dir():
        raise InvalidRequest(
            _("there is no folder {folder}").format(folder=folder), hint=_("create it first")
        )
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InvalidRequest(
            _("{path} may not be written by this user").format(path=path),
            hint=_("choose another place"),
        )
