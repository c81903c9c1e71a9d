"""The start of a server process, and the errors that prevent it, one line each."""

import logging
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from omega21.data.durable import make_private_folder
from omega21.data.failures import kind_of, storage_failure
from omega21.language import N_, _
from omega21.logs import SERVER_LOG, PlainLines, hide, log_to_file
from omega21.protocol.errors import (
    DiskFull,
    NotOnThisServer,
    OmegaError,
    RunFolderConflict,
    ServerFailure,
    StorageFull,
)
from omega21.protocol.printable import printable
from omega21.server.http.unauthenticated import unauthenticated_log_filter
from omega21.server.options import ServeOptions

CODE_WORD: Final = "code "
"""What a child reports of a source that it has accepted, before the digest."""

_ELSEWHERE: Final = N_("choose another --data-dir")
_LONGEST_REASON: Final = 300


def open_standard_files() -> None:
    """Open closed standard files as empty ones.

    Otherwise the next opened file gets their number: a child would read a listening socket with the
    number 0 as its standard input.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def start_logs(options: ServeOptions) -> None:
    """Log to standard error for people, and as JSON lines to the data folder; never the token.

    The parent and its child share the file.
    """
    hide(options.token)
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(PlainLines())
    # The command prints its final error on standard error itself: one line, not two.
    shown.addFilter(lambda record: record.name != "omega21.cli")
    logging.basicConfig(level=options.log_level.upper(), handlers=[shown])
    # It logs each request, and the tunnel's watch sends one every few seconds.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    log_to_file(options.data_dir / SERVER_LOG, level=options.log_level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(unauthenticated_log_filter)


def accepted_line(sha256: str) -> str:
    """Return the line that the server's owner sees when a source was accepted."""
    return _("accepted source sha256:{sha256}").format(sha256=sha256)


def make_data_dir(folder: Path) -> None:
    """Create the data folder, and check that it is writable.

    Raises RunFolderConflict, StorageFull.
    """
    with start_errors(folder):
        make_private_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")


@contextmanager
def start_errors(data_dir: Path, *, is_over: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Convert exceptions during the start to OmegaErrors, until the start `is_over`."""
    try:
        yield
    except OmegaError:
        raise
    except Exception as error:
        if is_over():
            raise
        raise _in_a_line(data_dir, error) from error


def _in_a_line(data_dir: Path, error: Exception) -> OmegaError:
    reason = printable(" ".join(str(error).split()), most=_LONGEST_REASON)
    match error:
        case ImportError():
            return NotOnThisServer(
                _("a package that a server needs cannot be loaded: {reason}").format(reason=reason),
                hint=_("in your copy of the repository: pip install '.[server]'"),
            )
        case OSError() if kind_of(error) is DiskFull:
            return StorageFull(
                _("{folder} has no free space: {reason}").format(folder=data_dir, reason=reason),
                hint=_("free space on its disk, or choose another --data-dir"),
            )
        case sqlite3.Error() if kind_of(error) is not None:
            return storage_failure(error, data_dir)
        case OSError():
            return RunFolderConflict(
                _("{folder} cannot be the data folder: {reason}").format(
                    folder=data_dir, reason=reason
                ),
                hint=_(_ELSEWHERE),
            )
        case sqlite3.Error() | ValidationError() | UnicodeError():
            return RunFolderConflict(
                _("{folder} is damaged: {reason}").format(folder=data_dir, reason=reason),
                hint=_("restore it, or use another --data-dir"),
            )
    # The traceback goes to the log file only, as with every final error of a command.
    logging.getLogger("omega21.cli").error("the server does not start", exc_info=error)
    return ServerFailure(
        _("the server does not start: {kind}: {reason}").format(
            kind=type(error).__name__, reason=reason
        ),
        hint=_("its log in {folder} has more").format(folder=data_dir / "logs"),
    )
