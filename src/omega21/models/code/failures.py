"""Failures of the user's own source, named by its file and line."""

import inspect
import logging
import platform
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final

import torch

from omega21.language import _
from omega21.protocol.errors import ImportFailed, OmegaError, TaskFailed
from omega21.protocol.printable import printable

logger = logging.getLogger(__name__)

_LONGEST: Final = 500
_OF_THE_DEVICE: Final = (torch.OutOfMemoryError, torch.AcceleratorError)
"""Named by the executor."""


@contextmanager
def named_failures(folder: str) -> Iterator[None]:
    """Convert what the source in `folder` raises to TaskFailed, and log its own frames.

    `sys.exit` is such a failure too. Errors of omega21 and of the device pass unchanged.
    """
    try:
        yield
    except (OmegaError, *_OF_THE_DEVICE):
        raise
    except (Exception, SystemExit) as error:
        raise _task_failed(error, folder) from error


def _task_failed(error: BaseException, folder: str) -> TaskFailed:
    logger.error("%s", _short_trace(error, folder))
    message = describe(error, folder)
    if "torch.use_deterministic_algorithms" in str(error):
        return TaskFailed(message, hint=_("pass --fast, and replays may differ; or replace it"))
    if not isinstance(error, ImportError):
        return TaskFailed(message)
    return ImportFailed(
        _("{message} (the server has {versions})").format(message=message, versions=_versions())
    )


def _versions() -> str:
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, numpy {version('numpy')}"
    )


def describe(error: BaseException, folder: str) -> str:
    """Return `net.py:12: ValueError: …`: the innermost line in `folder`, and the first line said.

    Without a line where no frame is in `folder`, as in a backward pass.
    """
    text = error.msg if isinstance(error, SyntaxError) else str(error).strip()
    name = type(error).__name__
    text = text.partition("\n")[0]
    said = printable(f"{name}: {text}" if text else name, most=_LONGEST)
    place = _place(error, folder)
    return f"{place}: {said}" if place else said


def where(function: Callable[..., Any], folder: str) -> str:
    """Return `net.py:12`, the first line of a function in `folder`; its name if it is elsewhere."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is not None and is_within(code.co_filename, folder):
        return f"{_relative(code.co_filename, folder)}:{code.co_firstlineno}"
    return printable(getattr(function, "__qualname__", type(function).__name__), most=_LONGEST)


def _place(error: BaseException, folder: str) -> str | None:
    if isinstance(error, SyntaxError) and is_within(error.filename or "", folder):
        return f"{_relative(error.filename or '', folder)}:{error.lineno}"
    frames = _frames(error, folder)
    return f"{_relative(frames[-1].filename, folder)}:{frames[-1].lineno}" if frames else None


def _frames(error: BaseException, folder: str) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if is_within(frame.filename, folder)]


def _short_trace(error: BaseException, folder: str) -> str:
    """Return the traceback cut to the frames in `folder`; the whole one where there are none."""
    frames = _frames(error, folder)
    if not frames and not isinstance(error, SyntaxError):
        return "".join(traceback.format_exception(error)).rstrip()
    lines = ["Traceback (the frames of the run's own source):"]
    for frame in frames:
        place = f"{_relative(frame.filename, folder)}:{frame.lineno}"
        lines += [f"  {place} in {frame.name}", f"    {frame.line}"]
    return "\n".join([*lines, *traceback.format_exception_only(error)]).rstrip()


def is_within(filename: str, folder: str) -> bool:
    """Whether a file is in a folder, by its name."""
    return filename.startswith((f"{folder}/", f"{folder}\\"))


def _relative(filename: str, folder: str) -> str:
    return printable(filename[len(folder) :].lstrip("/\\"), most=_LONGEST)
