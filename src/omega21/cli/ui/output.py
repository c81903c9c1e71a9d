"""The one place where commands print: for people, as JSON or nothing.

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
    """What a command prints."""

    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"


class SafeConsole(Console):
    """A console that shows control and bidirectional characters as their escapes.

    All output passes here as segments, tables and live views included. The control codes of rich
    itself, such as colours, are not text of a segment, and stay.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render into segments with escaped text."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable_lines(text), style, control)


class Output:
    """Standard output and standard error of one command."""

    def __init__(self, *, json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.mode = Mode.JSON if json else Mode.QUIET if quiet else Mode.HUMAN
        if json:
            choose_language("en")  # what programs read is the same whoever runs them
        self.results = SafeConsole(soft_wrap=False, highlight=False)
        self.messages = SafeConsole(stderr=True, highlight=False)
        if verbose:
            logger = logging.getLogger("omega21")
            logger.setLevel(min(logging.INFO, logger.level or logging.INFO))
            logger.addHandler(_LogHandler(self.messages))

    @property
    def is_live(self) -> bool:
        """Whether a live view can be shown."""
        return (
            self.mode is Mode.HUMAN
            and self.messages.is_terminal
            and not self.messages.is_dumb_terminal
        )

    def result(self, document: Mapping[str, Any], shown: RenderableType) -> None:
        """Print a command's result: the document as one line of JSON, or what people read."""
        if self.mode is Mode.JSON:
            self.event(document)
        elif self.mode is Mode.HUMAN:
            self._print(self.results, shown)

    def event(self, document: Mapping[str, Any]) -> None:
        """Print one line of JSON and flush it: a program may be waiting for it."""
        self.results.file.write(json.dumps(document, allow_nan=False) + "\n")
        self.results.file.flush()

    def details(self, shown: RenderableType) -> None:
        """Print details for people; on standard error where the result is JSON."""
        if self.mode is not Mode.QUIET:
            self._print(self.results if self.mode is Mode.HUMAN else self.messages, shown)

    @staticmethod
    def _print(console: Console, shown: RenderableType) -> None:
        """Print without breaking texts, so that a path or a digest can be copied."""
        console.print(shown, soft_wrap=isinstance(shown, Text))

    def info(self, text: str) -> None:
        """Print one line on standard error, without breaking it."""
        if self.mode is not Mode.QUIET:
            self.messages.print(Text(printable(text)), soft_wrap=True)

    def confirmed(self, question: str) -> bool:
        """Ask on standard error, and return whether standard input answers yes."""
        sys.stderr.write(f"{printable(question)} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes", "s", "sí", "si"}


class _LogHandler(logging.Handler):
    """Print log records through the console, above a live view."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.addFilter(lambda record: record.name != "omega21.cli")
        self._console = console
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._console.print(Text(self.format(record), style="dim"), soft_wrap=True)


def is_verbose() -> bool:
    """Whether this command prints its log (-v)."""
    return any(
        isinstance(handler, _LogHandler) for handler in logging.getLogger("omega21").handlers
    )


def key_values(rows: Sequence[tuple[str, str]]) -> Text:
    """Format names and values in two columns, one pair per line."""
    width = max(len(name) for name, _ in rows) + 2
    lines = [Text.assemble((name.ljust(width), "dim"), printable(value)) for name, value in rows]
    return Text("\n").join(lines)


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Format a table without lines; nothing is cut off."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
