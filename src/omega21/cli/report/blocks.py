"""The elements of a report, independent of its format; every text is plain, never markup."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Names and values."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under titles."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Commands:
    """Lines for a shell."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, by the name of its file; `caption` is its alternative text."""

    name: str
    caption: str
    draw: "Callable[[], Figure]"


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts side by side."""

    charts: Sequence[Chart]


Block: TypeAlias = KeyValues | Table | Text | Commands | Charts


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Report:
    """A report: the run's name, a subtitle, its main figures, its sections."""

    title: str
    subtitle: str
    highlights: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    footer: str
