"""A training while it goes on: a view that redraws itself on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from omega21.cli.output import Mode, Output
from omega21.cli.progress import TrainingProgress
from omega21.client.events import (
    Connected,
    Event,
    LinkLost,
    LinkRestored,
    Notice,
    RunReady,
    StepsDone,
    UploadProgress,
)

_BAR_WIDTH = 30
_REDRAWS_PER_SECOND = 8


class View(Protocol):
    """Shows what happens in a training."""

    def show(self, event: Event) -> None:
        """Take in what happened."""


@contextmanager
def open_view(output: Output) -> Iterator[View]:
    """Open the view that fits the output."""
    if output.is_live:
        view = LiveView(output)
        with Live(
            view, console=output.notes, refresh_per_second=_REDRAWS_PER_SECOND, transient=False
        ):
            yield view
    else:
        yield PlainView(output)


class PlainView:
    """One line for what is worth one: every tenth of the way, and whatever is unusual.

    Where the result is JSON, the way there is left out.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._shows_way = output.mode is Mode.HUMAN
        self._progress = TrainingProgress()
        self._tenths = {"upload": 0, "train": 0}

    def show(self, event: Event) -> None:
        """Print a line where the event is worth one."""
        progress = self._progress
        progress.take(event)
        note = self._output.note
        match event:
            case Notice(text):
                note(text)
            case LinkLost() | LinkRestored():
                note(progress.link_text())
            case Connected() | RunReady() if self._shows_way:
                note(progress.headline(event))
            case UploadProgress(uploaded=done, samples=whole) if self._shows_way:
                if self._is_next_tenth("upload", done, whole):
                    note(f"uploaded {done} of {whole} samples")
            case StepsDone() if self._shows_way:
                if self._is_next_tenth("train", progress.steps_done, progress.steps):
                    note(
                        f"step {progress.steps_done} of {progress.steps}  {progress.figures_text()}"
                    )

    def _is_next_tenth(self, what: str, done: int, whole: int) -> bool:
        tenths = 10 * done // whole if whole else 0
        is_next, self._tenths[what] = tenths > self._tenths[what], tenths
        return is_next


class LiveView:
    """Two bars, the newest figures, the link and the state: four lines of at most 80 columns."""

    def __init__(self, output: Output, get_time: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._progress = TrainingProgress()
        self._bars = Progress(
            TextColumn("{task.description:<6}"),
            BarColumn(_BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=output.notes,
            get_time=get_time,
        )
        self._upload = self._bars.add_task("upload", total=None, unit="samples")
        self._train = self._bars.add_task("train", total=None, unit="steps")

    def show(self, event: Event) -> None:
        """Take in what happened; the next redraw shows it."""
        self._progress.take(event)
        match event:
            case Connected() | RunReady():
                self._output.note(self._progress.headline(event))
            case Notice(text):
                self._output.note(text)
            case UploadProgress():
                self._bars.update(self._upload, total=event.samples, completed=event.uploaded)
            case StepsDone():
                self._advance()
        if isinstance(event, RunReady):
            self._advance()

    def _advance(self) -> None:
        progress = self._progress
        self._bars.update(self._train, total=progress.steps, completed=progress.steps_done)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the bars and, below, the figures and the link."""
        yield self._bars.get_renderable()
        progress = self._progress
        yield Text(progress.figures_text() or "no results yet", overflow="ellipsis", no_wrap=True)
        link = f"{progress.link_text()}  {progress.state_text()}".rstrip()
        style = "dim" if progress.is_reached else "bold red"
        yield Text(link, style, overflow="ellipsis", no_wrap=True)
