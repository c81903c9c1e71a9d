"""What a check of the doctor's is: how it came out, what was found, what to do."""

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
    """One thing that was looked at: what was found, and what to do where it is not as it should be.

    `figures` are for programs; `exit_code` is that of the error, for a failed one.
    """

    name: str
    state: State
    found: str
    advice: str = ""
    exit_code: int = 0
    figures: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What a check came to: with advice it is a warning."""

    text: str
    advice: str = ""
    figures: Mapping[str, float | str | None] = field(default_factory=dict)


class NotChecked(Exception):
    """A check cannot be made, for a reason that is no fault."""


async def make_check(name: str, look: Callable[[], Awaitable[Found]]) -> Check:
    """Make a check; what is wrong becomes its result."""
    try:
        found = await look()
    except NotChecked as reason:
        return Check(name=name, state="not checked", found=str(reason))
    except OmegaError as error:
        # What a server refused comes as one text, its hint behind the first semicolon.
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
    """Judge how much room a disk has. Raises StorageFull where there is next to none."""
    text = _("{free} GB free in {where}").format(free=decimal(free / 1e9, 1), where=where)
    if free < _NO_DISK:
        raise StorageFull(text, hint=advice)
    return Found(text, advice if free < _LITTLE_DISK else "", {"free": free})
