"""Loggers: export a run's metrics to TensorBoard, MLflow, W&B, Trackio or your own class.

A logger of your own is a class with three methods (`Logger`), named on the command line as
`package.module:Class` or given to `Client.train(request, loggers=[…])`. It runs in a thread of its
own, reads what is on disk, and cannot affect the run: its first exception is reported once and
disables it.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

from omega21.language import _
from omega21.protocol.errors import ExtraMissing, InvalidRequest

BUILT_IN: Final = ("tensorboard", "mlflow", "wandb", "trackio")
_PACKAGES: Final = {"mlflow": "mlflow", "wandb": "wandb", "trackio": "trackio"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedRun:
    """The run that is logged: name, id, folder, parameters."""

    name: str
    id: str
    folder: Path
    parameters: Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Point:
    """Metrics of one step, by name, and the time of its end (seconds since 1970)."""

    step: int
    metrics: Mapping[str, float]
    ended_at: float


class Logger(Protocol):
    """Receives a run's metrics; each method may be slow and may raise."""

    def start(self, run: LoggedRun) -> None:
        """Start a training of this run, which may have been logged in part before."""

    def log(self, points: Sequence[Point]) -> None:
        """Log the next points: each step of a run once, in order, followed by its evaluations."""

    def finish(self) -> None:
        """End this training."""


LoggerChoice = str | Logger
"""A built-in logger by its name, or a logger."""


def check_loggers(chosen: Sequence[LoggerChoice]) -> None:
    """Raise InvalidRequest for an unknown name, ExtraMissing for one that is not installed."""
    for name in chosen:
        if not isinstance(name, str):
            continue
        if name not in BUILT_IN:
            raise InvalidRequest(
                _("there is no logger {name}").format(name=repr(name)),
                hint=_("choose one of {names}, or package.module:Class").format(
                    names=", ".join(BUILT_IN)
                ),
            )
        if name in _PACKAGES and find_spec(_PACKAGES[name]) is None:
            raise ExtraMissing.of(name, for_what=_("the logger {name}").format(name=name))


def open_logger(chosen: LoggerChoice) -> Logger:
    """Return a logger; a built-in one is imported now, with its library."""
    if not isinstance(chosen, str):
        return chosen
    module = importlib.import_module(f"omega21.client.loggers.{chosen}")
    made: Logger = module.make()
    return made


def load_logger(text: str) -> LoggerChoice:
    """Return the logger of a name: a built-in one, or an instance of `package.module:Class`.

    Modules in the current folder are found too. Raises InvalidRequest.
    """
    module_name, colon, class_name = text.partition(":")
    if not colon:
        check_loggers([text])
        return text
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - a path for the interpreter, as text
    try:
        made: Logger = getattr(importlib.import_module(module_name), class_name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InvalidRequest(
            _("{name} is not a logger: {reason}").format(name=repr(text), reason=error),
            hint=_("name a class that needs no arguments, as package.module:Class"),
        ) from error
    finally:
        sys.path.pop(0)
    missing = [name for name in ("start", "log", "finish") if not hasattr(made, name)]
    if missing:
        raise InvalidRequest(
            _("{name} is not a logger: it has no {method}").format(
                name=repr(text), method=", ".join(missing)
            )
        )
    return made
