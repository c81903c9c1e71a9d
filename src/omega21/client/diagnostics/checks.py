"""A check of the doctor: its result, what was found, and what to do."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from omega21.language import _
from omega21.language.figures import decimal
from omega21.protocol.errors import OmegaError, StorageFull

State = Literal["ok", "warning", "failed", "not checked"]

_LITTLE_DISK: Final = 2 * 10**9
_NO_DISK: Final = 10**8


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check: what was found, and what to do about a problem.

    `figures` are for programs; `exit_code` is that of the error of a failed check.
    """

    name: str
    state: State
    found: str
    advice: str = ""
    exit_code: int = 0
    figures: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a check: with advice it is a warning."""

    text: str
    advice: str = ""
    figures: Mapping[str, float | str | None] = field(default_factory=dict)


class NotChecked(Exception):
    """A check cannot be made, for a reason that is no fault."""


async def make_check(name: str, look: Callable[[], Awaitable[Found]]) -> Check:
    """Run a check; an error becomes its result."""
    try:
        found = await look()
    except NotChecked as reason:
        return Check(name=name, state="not checked", found=str(reason))
    except OmegaError as error:
        # A refusal of the server is one text, with its hint after the first semicolon.
        found_text, _separator, told = error.message.partition("; ")
        return Check(
            name=name,
            state="failed",
            found=found_text,
            advice=error.hint or told or type(error).default_hint,
            exit_code=error.exit_code,
        )
    return Check(
        name=name,
        state="warning" if found.advice else "ok",
        found=found.text,
        advice=found.advice,
        figures=found.figures,
    )


def disk_found(free: int, *, where: str, advice: str) -> Found:
    """Judge the free space of a disk. Raises StorageFull when there is almost none."""
    text = _("{free} GB free in {where}").format(free=decimal(free / 1e9, 1), where=where)
    if free < _NO_DISK:
        raise StorageFull(text, hint=advice)
    return Found(text, advice if free < _LITTLE_DISK else "", {"free": free})
