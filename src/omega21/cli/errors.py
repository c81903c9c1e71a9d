"""Errors as one line on standard error and an exit status.

- an OmegaError has its own status (docs/reference/cli.md lists them);
- a wrong option is 2, the same as `InvalidRequest`; Ctrl-C is 130, which typer sees to;
- a disk that is full, a file that is locked or not the user's have statuses of their own; any other
  file or folder that cannot be read or written is 1, and so is a question answered with no;
- a reader of standard output that has gone away (`… | head`) is 1 too, without a word: typer's;
- anything else is an internal error: 55, with the trace in a file, or here with -v.

The line is the same with --json: standard output stays empty, and the status says which error.
"""

import errno
import logging
import os
import sqlite3
import sys
import tempfile
import traceback
from typing import Final, TypeGuard

import typer

from omega21.data.failures import kind_of, storage_failure
from omega21.language import _
from omega21.language.borrowed import translated
from omega21.protocol.errors import InternalError, OmegaError
from omega21.protocol.printable import printable, printable_lines

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a write to a stream, which have no file name, on a disk that is full or fails."""

_log = logging.getLogger("omega21.cli")  # for its file: errors are printed on standard error anyway
_log.addHandler(logging.NullHandler())  # without a file, logging would print them there again


def report(error: Exception) -> int:
    """Print an error and return the exit status."""
    if _is_disk_error(error):
        error = storage_failure(error)
    if isinstance(error, OmegaError):
        _print_error(error)
        return error.exit_code
    if isinstance(error, typer.TyperException):
        return _usage_error(error)
    if isinstance(error, typer.Abort):
        sys.stderr.write("\n")  # ends the line of the question
        _print_error(_("nothing was done"))
        return 1
    if message := _machine_error(error):
        _print_error(message)
        return 1
    return _internal_error(error)


def _machine_error(error: Exception) -> str | None:
    """Describe an error of this machine: out of memory, or a file; None for any other."""
    if isinstance(error, MemoryError):
        return _("this machine has too little memory for this: {error}").format(error=error)
    if not isinstance(error, OSError):
        return None
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in _NO_ROOM:
        return _("the output could not be written: {error}").format(error=error.strerror)
    return None


def _is_disk_error(error: Exception) -> TypeGuard[OSError | sqlite3.Error]:
    if isinstance(error, OSError) and error.filename is None:
        return False  # a stream's
    return isinstance(error, OSError | sqlite3.Error) and kind_of(error) is not None


def _usage_error(error: typer.TyperException) -> int:
    """Print what is wrong with an option, and the command that shows the help."""
    context = getattr(error, "ctx", None)
    help_command = f"{context.command_path if context else 'omega21'} --help"
    message = translated(" ".join(error.format_message().split())).rstrip(".")
    _print_error(_("{message}; see {command}").format(message=message, command=help_command))
    return 2


def _internal_error(error: Exception) -> int:
    trace = "".join(traceback.format_exception(error))
    from omega21.cli.ui.output import is_verbose

    if is_verbose():
        sys.stderr.write(printable_lines(trace))
        where = _("the traceback is above")
    else:
        handle, path = tempfile.mkstemp(prefix="omega21-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(trace)
        where = _("the traceback is in {path}; -v shows it").format(path=path)
    _log.error("a fault", exc_info=error)
    fault = _("internal error, {kind}: {error}; {where}")
    _print_error(fault.format(kind=type(error).__name__, error=error, where=where))
    return InternalError.exit_code


def _print_error(text: object) -> None:
    _log.error("%s", text)
    line = printable(" ".join(str(text).split()))
    sys.stderr.write(_("error: {text}").format(text=line) + "\n")
