"""The one place where commands write: people, JSON or nothing, decided once.

Results go to standard output, so that it can be piped; progress, notices and hints go to standard
error. NO_COLOR and TERM=dumb are honoured by rich.
"""

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from omega21.language import choose_language
from omega21.protocol.printable import printable, printable_lines


class Mode(Enum):
    """Whom a command speaks to."""

    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"


class SafeConsole(Console):
    """A console that shows control and bidirectional characters as their escapes.

    Whatever is printed passes here as segments, tables and live views included. What rich itself
    sends to the terminal, colours and moves of the cursor, is no text of a segment, and stays.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render something into segments whose text is harmless."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable_lines(text), style, control)


class Output:
    """Standard output and standard error of one command."""

    def __init__(self, *, json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.mode = Mode.JSON if json else Mode.QUIET if quiet else Mode.HUMAN
        if json:
            choose_language("en")  # what programs read is the same whoever runs them
        self.results = SafeConsole(soft_wrap=False, highlight=False)
        self.notes = SafeConsole(stderr=True, highlight=False)
        if verbose:
            logger = logging.getLogger("omega21")
            logger.setLevel(min(logging.INFO, logger.level or logging.INFO))
            logger.addHandler(_Notes(self.notes))

    @property
    def is_live(self) -> bool:
        """Whether a view that redraws itself can be shown."""
        return (
            self.mode is Mode.HUMAN and self.notes.is_terminal and not self.notes.is_dumb_terminal
        )

    def result(self, document: Mapping[str, Any], shown: RenderableType) -> None:
        """Print a command's result: the document as one line of JSON, or what people read."""
        if self.mode is Mode.JSON:
            self.event(document)
        elif self.mode is Mode.HUMAN:
            self._print(self.results, shown)

    def event(self, document: Mapping[str, Any]) -> None:
        """Print one line of JSON, at once: what reads it may be waiting."""
        self.results.file.write(json.dumps(document, allow_nan=False) + "\n")
        self.results.file.flush()

    def aside(self, shown: RenderableType) -> None:
        """Print what people read beside the result; it is kept out of the way of JSON."""
        if self.mode is not Mode.QUIET:
            self._print(self.results if self.mode is Mode.HUMAN else self.notes, shown)

    @staticmethod
    def _print(console: Console, shown: RenderableType) -> None:
        """Print; a path or a digest stays whole, so that it can be copied."""
        console.print(shown, soft_wrap=isinstance(shown, Text))

    def note(self, text: str) -> None:
        """Say something beside the result, in one line that is never broken."""
        if self.mode is not Mode.QUIET:
            self.notes.print(Text(printable(text)), soft_wrap=True)

    def confirmed(self, question: str) -> bool:
        """Ask on standard error; anything but a yes on standard input is a no."""
        sys.stderr.write(f"{printable(question)} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes", "s", "sí", "si"}


class _Notes(logging.Handler):
    """Log records through the console, which keeps them out of a live view's lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.addFilter(lambda record: record.name != "omega21.cli")
        self._console = console
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._console.print(Text(self.format(record), style="dim"), soft_wrap=True)


def is_verbose() -> bool:
    """Whether this command was asked to show its log."""
    return any(isinstance(handler, _Notes) for handler in logging.getLogger("omega21").handlers)


def facts(rows: Sequence[tuple[str, str]]) -> Text:
    """Lay out names and values in two columns, a line for each."""
    width = max(len(name) for name, _ in rows) + 2
    lines = [Text.assemble((name.ljust(width), "dim"), printable(value)) for name, value in rows]
    return Text("\n").join(lines)


def listing(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Lay out rows under titles, without lines; nothing is cut off."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
