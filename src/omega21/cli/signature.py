"""Commands whose options are declared in dataclasses, each once for all commands that have them."""

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, Final, TypeVar, get_args

import typer

from omega21.cli.ui.help import Command

_Function = TypeVar("_Function", bound=Callable[..., None])

_BY_NAME: Final = inspect.Parameter.KEYWORD_ONLY  # typer passes all values by name


def command(
    app: typer.Typer, name: str | None = None, *, examples: str | None = None
) -> Callable[[_Function], _Function]:
    """Add a function to `app` as a command, under a name other than its own where one is given.

    Its help ends with the examples: commands, and above each a line that begins with "# ".
    """

    def add(function: _Function) -> _Function:
        app.command(name, cls=Command, epilog=examples)(expanded(function))
        return function

    return add


def expanded(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function with the fields of a dataclass in place of each parameter that is one.

    A field is an option or argument with the field's annotation and default; without a default it
    is required. The class attribute `panel`, where there is one, is the title of its options in the
    help.
    """
    signature = inspect.signature(function)
    groups: dict[str, Any] = {
        parameter.name: parameter.annotation
        for parameter in signature.parameters.values()
        if is_dataclass(parameter.annotation)
    }

    @wraps(function)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{each.name: values.pop(each.name) for each in fields(group)})
        function(**values)

    parameters = (_expand(parameter) for parameter in signature.parameters.values())
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]  # which typer reads
        parameters=[parameter for several in parameters for parameter in several]
    )
    return call


def _expand(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    group = parameter.annotation
    if not is_dataclass(group):
        yield parameter.replace(kind=_BY_NAME)
        return
    for field in fields(group):
        option, info = get_args(field.type)
        info = copy(info)
        info.rich_help_panel = getattr(group, "panel", None)
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, _BY_NAME, default=default, annotation=Annotated[option, info]
        )
