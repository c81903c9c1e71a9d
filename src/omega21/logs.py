"""Logging on both sides: one JSON object a line, with the run, step and request it belongs to.

`log_context` adds fields to every line that is logged inside it, in the same task or thread. The
`extra` of a record overrides them.

Several processes share a file (the server's parent and its child; two commands of one user): each
line is one append to a file that is opened for it, and whichever process finds the file full
rotates it, under a lock that others do not wait for.
"""

import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from omega21.data.durable import make_private_folder
from omega21.language import speaking
from omega21.protocol.printable import printable, printable_lines

FIELDS: Final = ("run", "step", "request")
"""Fields that name what a line belongs to."""

SERVER_LOG: Final = Path("logs", "server.jsonl")
"""A server's log, in its data folder, with its rotated files beside it."""

CLIENT_LOG: Final = Path("logs", "client.jsonl")
"""The log of a user's commands, beside the run folders."""

MAX_BYTES: Final = 4_000_000
"""A log file of this size is rotated to NAME.1, and NAME.1 to NAME.2, …"""

KEPT: Final = 4
"""Number of rotated files that are kept."""

_SECRETS: Final = (
    re.compile(r"(?i)(\b(?:set-)?cookie[\"']?\s*[:=]\s*[\"']?)([^\"'\n]+)"),
    re.compile(
        r"(?i)(\b(?:bearer|basic)\s+|"
        r"\b[\w-]*(?:authorization|authtoken|token|password|passwd|secret|session|api[-_]?key)\b"
        r"[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic)\s+)?)"
        r"([^\s\"'&;,<>{}()\[\]]+)"
    ),
)
"""Patterns of secrets: after their name, or after the scheme of a header."""

_SECRET_NAME: Final = re.compile(
    r"(?i)(?:.*[^a-z])?(?:authorization|authtoken|token|password|passwd|secret|session|cookie|"
    r"api[-_]?key)"
)
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
_hidden: set[str] = set()
_context: ContextVar[Mapping[str, object]] = ContextVar("omega21_log", default={})  # noqa: B039


@contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Add these fields to lines logged in this block."""
    reset = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(reset)


def remember(**fields: object) -> None:
    """Add these fields to lines logged from now on in this task or thread."""
    _context.set({**_context.get(), **fields})


def current() -> Mapping[str, object]:
    """Return the current fields, to pass them to another thread."""
    return _context.get()


def hide(secret: str | None) -> None:
    """Redact a token from every line that this process logs."""
    if secret:
        _hidden.add(secret)


def without_secrets(text: str) -> str:
    """Redact the hidden secrets, and whatever looks like a token, a cookie or a password."""
    for secret in sorted(
        _hidden, key=len, reverse=True
    ):  # a secret may contain another: the longest first
        text = text.replace(secret, "***")
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***", text)
    return text


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    return _SECRET_NAME.fullmatch(name) is not None


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of a record: its own override those of its context."""
    found = {**_context.get()}
    found.update({name: getattr(record, name) for name in FIELDS if hasattr(record, name)})
    return {name: found[name] for name in FIELDS if found.get(name) is not None}


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON, with the time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; logs are in English, whatever the language of the context."""
        with speaking("en"):
            return self._line(record)

    def _line(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            **_fields_of(record),
            "message": without_secrets(record.getMessage()),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["trace"] = without_secrets("".join(traceback.format_exception(record.exc_info[1])))
        text = json.dumps(line, ensure_ascii=False, default=str)
        # Logs are read in terminals too, so control characters are escaped, as in JSON.
        return "".join(each if printable(each) == each else json.dumps(each)[1:-1] for each in text)


class PlainLines(logging.Formatter):
    """Formats a record as text, with its fields at the end of the first line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format the first line."""
        fields = ", ".join(f"{name} {value}" for name, value in _fields_of(record).items())
        return super().formatMessage(record) + (f" ({fields})" if fields else "")

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, including its traceback."""
        with speaking("en"):
            return printable_lines(without_secrets(super().format(record)))


class SharedFile(logging.Handler):
    """Appends lines to a file shared with other processes, and rotates it when it is full."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        super().__init__()
        self.path = path
        self.setFormatter(JsonLines())
        self._max_bytes = max_bytes
        self._kept = kept
        self._is_broken = False

    def emit(self, record: logging.LogRecord) -> None:
        """Append one line; report a failure once on standard error."""
        try:
            self._append(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
            self._is_broken = False
        except OSError as error:
            if not self._is_broken:
                self._is_broken = True
                sys.stderr.write(f"{self.path} is not written: {error.strerror}\n")

    def _append(self, line: bytes) -> None:
        if self._is_full(len(line)):
            self._rename(len(line))
        make_private_folder(self.path.parent)
        descriptor = os.open(self.path, _APPEND, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def _is_full(self, more: int) -> bool:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return False
        return size > 0 and size + more > self._max_bytes

    def _rename(self, more: int) -> None:
        """Rotate the file, unless another process has done it or is doing it."""
        import filelock  # noqa: PLC0415 - for a file in a thousand lines

        try:
            with filelock.FileLock(f"{self.path}.lock", timeout=0):
                if not self._is_full(more):
                    return
                for number in range(self._kept, 1, -1):
                    older, newer = _numbered(self.path, number), _numbered(self.path, number - 1)
                    if newer.exists():
                        newer.replace(older)
                self.path.replace(_numbered(self.path, 1))
        except (filelock.Timeout, FileNotFoundError, PermissionError, NotImplementedError):
            return  # append without rotating: the file is in use, or the disk has no locks


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def log_to_file(path: Path, *, level: str, logger: str = "") -> None:
    """Log to a file from `level` on: everything, or one logger and its children.

    Replaces the previous log file, if any.
    """
    handler = SharedFile(path)
    handler.setLevel(level.upper())
    chosen = logging.getLogger(logger)
    for before in [each for each in chosen.handlers if isinstance(each, SharedFile)]:
        chosen.removeHandler(before)
    chosen.addHandler(handler)
    if chosen.level == logging.NOTSET or chosen.level > handler.level:
        chosen.setLevel(handler.level)


def last_lines(path: Path, most: int, *, max_bytes: int) -> list[str]:
    """Return the newest lines of a log and its rotated files, oldest first.

    At most `most` lines, of at most `max_bytes` in total.
    """
    found: list[str] = []
    room = max_bytes
    for file in (path, *(_numbered(path, number) for number in range(1, KEPT + 1))):
        if not file.exists():
            continue
        lines = _end_of(file, room)
        found = lines[max(0, len(lines) - most + len(found)) :] + found
        room = max_bytes - sum(len(line.encode()) + 1 for line in found)
        if len(found) >= most or room <= 0:
            break
    return found


def _end_of(file: Path, size: int) -> list[str]:
    """Return the complete lines in the last `size` bytes of a file."""
    with file.open("rb") as opened:
        end = opened.seek(0, os.SEEK_END)
        start = max(0, end - size)
        opened.seek(start)
        text = opened.read(end - start)
    if start:
        text = text.partition(b"\n")[2]
    return text.decode("utf-8", "replace").splitlines()
