"""What holds for the value of every option, whatever the command: paths, and the size of numbers.

A shell puts the home folder in place of `~` only where a word begins with it, so `--workdir=~/x`
and what stands in an environment variable arrive with it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer

from omega21.language import _

MOST_WHOLE: Final = 2**63 - 1
"""The largest whole number that the files and messages of omega21 hold."""
MOST_SECONDS: Final = 1e9
"""The longest time that can be waited for: 31 years. All options with a fraction are times, or have
a limit of their own."""


def check_values(command: Any) -> None:
    """Make each parameter of a command, and of all below it, read its value as is said here."""
    for parameter in command.params:
        parameter.callback = _reading(parameter.callback)
    for child in getattr(command, "commands", {}).values():
        check_values(child)


def _reading(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    def read(context: typer.Context, parameter: Any, value: Any) -> Any:
        value = _read(value, parameter, context)
        return value if callback is None else callback(context, parameter, value)

    return read


def _read(value: Any, parameter: Any, context: typer.Context) -> Any:
    match value:
        case bool():
            return value
        case Path():
            return Path(os.path.expanduser(value))  # noqa: PTH111 - this one knows no error
        case int() if abs(value) > MOST_WHOLE:
            limit = str(MOST_WHOLE)
        case float() if not abs(value) <= MOST_SECONDS:
            limit = f"{MOST_SECONDS:.0f}"
        case _:
            return value
    message = _("{value} is too large: at most {limit}").format(value=value, limit=limit)
    raise typer.BadParameter(message, ctx=context, param=parameter)
