"""Parsing of option values: times, sizes and words, and the checks of every value.

A shell puts the home folder in place of `~` only where a word begins with it, so `--workdir=~/x`
and what stands in an environment variable arrive with it.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import typer

from omega21.language import _

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omega21.client.store.run_folder import EvaluateEvery
    from omega21.client.training.options import Pull

MOST_WHOLE: Final = 2**63 - 1
"""The largest whole number that the files and messages of omega21 hold."""
MOST_SECONDS: Final = 1e9
"""The longest time that can be waited for: 31 years. All options with a fraction are times, or have
a limit of their own."""

_PULLS: Final[dict[str, Literal["auto", "never", "end"]]] = {
    "auto": "auto",
    "never": "never",
    "end": "end",
}
_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def check_values(command: Any) -> None:
    """Validate the values of all parameters of a command and its subcommands."""
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


def seconds(text: str, option: str, *, least: float = 0) -> float:
    """Parse a length of time: 90, 90s, 30m, 1h or 1d. Raises InvalidRequest, naming `option`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]?)", text.strip().lower())
    if found is None or found[2] not in _SECONDS:
        raise _not_read(text, option, _("a length of time, such as 90s, 30m, 1h or 1d"))
    length = float(found[1]) * _SECONDS[found[2]]
    if length > MOST_SECONDS:
        raise _not_read(
            text, option, _("at most {seconds} s").format(seconds=f"{MOST_SECONDS:.0f}")
        )
    if length < least:
        raise _not_read(text, option, _("at least {seconds} s").format(seconds=f"{least:g}"))
    return length


def size(text: str, option: str) -> int:
    """Parse a number of bytes: 500MB, 20GB. Raises InvalidRequest, naming `option`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", text.strip().upper())
    if found is None or found[2] not in _BYTES:
        raise _not_read(text, option, _("a number of bytes, such as 500MB or 20GB"))
    wanted = float(found[1]) * _BYTES[found[2]]
    if wanted > MOST_WHOLE:
        raise _not_read(text, option, _("at most {bytes} bytes").format(bytes=MOST_WHOLE))
    return int(wanted)


def option_values(given: Sequence[str]) -> "dict[str, JsonValue]":
    """Parse options NAME=VALUE: a JSON value, else a text. Raises InvalidRequest."""
    found: dict[str, JsonValue] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name):
            raise _not_read(text, "--set", _("NAME=VALUE, such as hidden=256"))
        if name in found:
            raise _not_read(text, "--set", _("each name once"))
        try:
            found[name] = json.loads(value, parse_constant=_no_number)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _no_number(text: str) -> "JsonValue":
    raise ValueError(text)  # NaN and Infinity are no JSON: they are texts


def names(text: str) -> tuple[str, ...]:
    """Parse names of tensors, such as y,z; `none` is no name."""
    listed = [name.strip() for name in text.split(",")]
    return () if listed == ["none"] else tuple(name for name in listed if name)


def evaluate_when(text: str) -> "EvaluateEvery":
    """Parse when held-out samples are evaluated: epoch, never, or a number of steps."""
    word = text.strip().lower()
    if word == "epoch":
        return "epoch"
    if word == "never":
        return "never"
    if re.fullmatch(r"\d{1,15}", word) and int(word) > 0:
        return int(word)
    raise _not_read(text, "--evaluate-every", _("epoch, never or a number of steps"))


def pull_policy(text: str) -> "Pull":
    """Parse when checkpoints are downloaded: auto, never, end, or a number of minutes."""
    word = text.strip().lower()
    if word in _PULLS:
        return _PULLS[word]
    if re.fullmatch(r"\d+(\.\d+)?", word) and float(word) > 0:
        return seconds(f"{word}m", "--pull-checkpoints")
    raise _not_read(text, "--pull-checkpoints", _("never, end, auto or a number of minutes"))


def _not_read(text: str, option: str, wanted: str) -> Exception:
    from omega21.protocol.errors import InvalidRequest

    return InvalidRequest(
        _("{option} takes {wanted}, got {text!r}").format(option=option, wanted=wanted, text=text)
    )
