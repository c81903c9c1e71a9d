"""Loggers: what hands a run's figures on to the tools that people keep open.

A logger of your own is a class with three methods (`Logger`), named on the command line as
`package.module:Class` or given to `Client.train(order, loggers=[…])`. It works in a thread of its
own, reads from what is on disk already, and cannot harm the run: the first thing that goes wrong
in it is told once, and that is its end.
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
    """The run whose figures are logged: its name and id, its folder, what it was asked for."""

    name: str
    id: str
    folder: Path
    parameters: Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Point:
    """Figures of one step, by name, and when it ended (seconds since 1970)."""

    step: int
    figures: Mapping[str, float]
    ended_at: float


class Logger(Protocol):
    """Takes a run's figures; each method may take its time and may raise."""

    def start(self, run: LoggedRun) -> None:
        """A training of this run begins; it may have been logged in part before."""

    def log(self, points: Sequence[Point]) -> None:
        """Take the next figures: each step of a run once, in order, evaluations after it."""

    def finish(self) -> None:
        """Nothing more comes from this training."""


LoggerChoice = str | Logger
"""A built-in logger by its name, or a logger."""


def check_loggers(chosen: Sequence[LoggerChoice]) -> None:
    """Raise InvalidRequest for a name that is none, ExtraMissing for one that is not installed."""
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
    """Return a logger; a built-in one is loaded now, with the library that it needs."""
    if not isinstance(chosen, str):
        return chosen
    module = importlib.import_module(f"omega21.client.loggers.{chosen}")
    made: Logger = module.make()
    return made


def load_logger(text: str) -> LoggerChoice:
    """Read a logger's name: a built-in one, or `package.module:Class`, which is made here.

    Modules beside the user are found too. Raises InvalidRequest.
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
