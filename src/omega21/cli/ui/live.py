"""The progress of a training: a live view on a terminal, lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, Protocol

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.text import Text

from omega21.cli.ui.output import Mode, Output
from omega21.cli.ui.progress import TrainingProgress, traffic_text
from omega21.cli.ui.sparkline import curve, is_wide, sparkline
from omega21.client.events import (
    Connected,
    Evaluated,
    Event,
    LinkLost,
    LinkRestored,
    Notice,
    RunReady,
    ServerSeen,
    StepsDone,
    UploadProgress,
    as_dict,
)
from omega21.client.http.usage import Traffic
from omega21.language import _
from omega21.language.figures import count, number

_BAR_WIDTH: Final = 30
_REDRAWS_PER_SECOND: Final = 8
_WIDEST_CURVE: Final = 120
_CURVE_HEIGHT: Final = 5
_SPARKS: Final = 16


class View(Protocol):
    """Shows the events of a training."""

    def show(self, event: Event) -> None:
        """Show an event."""


@contextmanager
def open_view(output: Output, traffic: Traffic) -> Iterator[View]:
    """Open the view that fits the output; `traffic` counts what goes over the link."""
    if output.is_live:
        view = LiveView(output, traffic)
        with Live(
            view, console=output.messages, refresh_per_second=_REDRAWS_PER_SECOND, transient=False
        ):
            yield view
    elif output.mode is Mode.JSON:
        yield JsonView(output, traffic)
    else:
        yield PlainView(output)


class PlainView:
    """A line for every tenth of the steps, and for notices and link failures.

    Where the result is JSON, progress is left out.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._shows_progress = output.mode is Mode.HUMAN
        self._progress = TrainingProgress()
        self._tenths = {"upload": 0, "train": 0}
        self._machine = ""

    def show(self, event: Event) -> None:
        """Print a line if the event needs one."""
        progress = self._progress
        progress.update(event)
        info = self._output.info
        match event:
            case Notice(text):
                info(text)
            case LinkLost() | LinkRestored():
                info(progress.link_text())
            case _ if self._shows_progress:
                self._show_progress(event)

    def _show_progress(self, event: Event) -> None:
        progress, info = self._progress, self._output.info
        match event:
            case Connected() | RunReady():
                info(progress.headline(event))
            case UploadProgress(uploaded=done, samples=whole):
                if self._is_next_tenth("upload", done, whole):
                    info(
                        _("uploaded {done} of {whole} samples").format(
                            done=count(done), whole=count(whole)
                        )
                    )
            case StepsDone():
                if self._is_next_tenth("train", progress.steps_done, progress.steps):
                    info(self._step_text())
            case Evaluated():
                info(progress.evaluation_text())
            case ServerSeen(status):
                device = status.estadisticas.dispositivo
                if device != self._machine:
                    self._machine = device
                    info(progress.machine_text())

    def _step_text(self) -> str:
        progress = self._progress
        position = _("step {done} of {whole}").format(
            done=count(progress.steps_done), whole=count(progress.steps)
        )
        texts = (position, progress.metrics_text(), progress.time_left_text())
        return "  ".join(text for text in texts if text)

    def _is_next_tenth(self, what: str, done: int, whole: int) -> bool:
        tenths = 10 * done // whole if whole else 0
        is_next, self._tenths[what] = tenths > self._tenths[what], tenths
        return is_next


class JsonView:
    """Every event as a line of JSON on standard output; notices on standard error too."""

    def __init__(self, output: Output, traffic: Traffic) -> None:
        self._output = output
        self._traffic = traffic
        self._plain = PlainView(output)

    def show(self, event: Event) -> None:
        """Print the event with its time and the traffic so far."""
        self._plain.show(event)
        traffic = self._traffic
        self._output.event(
            {
                **as_dict(event),
                "time": time.time(),
                "requests": traffic.requests,
                "bytes_sent": traffic.bytes_sent,
                "bytes_received": traffic.bytes_received,
            }
        )


class _TimeLeft(ProgressColumn):
    """The remaining time, or the duration of a finished task: 2:05, --:-- while unknown.

    In seconds from the task's field `left`; without one, from the speed of the bar.
    """

    def render(self, task: Task) -> Text:
        left = task.fields.get("left", task.time_remaining)
        seconds = task.finished_time if task.finished else left
        if seconds is None:
            return Text("--:--", style="progress.remaining")
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
        style = "progress.elapsed" if task.finished else "progress.remaining"
        return Text(text, style=style)


class LiveView:
    """Two progress bars, the loss curve, the newest metrics, the device and the link."""

    def __init__(
        self, output: Output, traffic: Traffic, get_time: Callable[[], float] = time.monotonic
    ) -> None:
        self._output = output
        self._traffic = traffic
        self._progress = TrainingProgress()
        self._bars = Progress(
            TextColumn("{task.description:<6}"),
            BarColumn(_BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            _TimeLeft(),
            console=output.messages,
            get_time=get_time,
        )
        self._upload = self._bars.add_task(
            _("upload"), total=None, unit=_("samples"), visible=False
        )
        self._train = self._bars.add_task(_("train"), total=None, unit=_("steps"), left=None)

    def show(self, event: Event) -> None:
        """Store an event; the next redraw shows it."""
        self._progress.update(event)
        match event:
            case Connected() | RunReady():
                self._output.info(self._progress.headline(event))
            case Notice(text):
                self._output.info(text)
            case UploadProgress():
                self._bars.update(
                    self._upload, total=event.samples, completed=event.uploaded, visible=True
                )
        if isinstance(event, RunReady | StepsDone):
            progress = self._progress
            self._bars.update(
                self._train,
                total=progress.steps,
                completed=progress.steps_done,
                left=progress.seconds_left,
            )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the bars and, below, the curve, the metrics and the link."""
        progress = self._progress
        if progress.steps:
            yield self._bars.get_renderable()
            yield from self._curve(options)
            yield from self._metrics(options)
        link = f"{progress.link_text()}  {progress.state_text()}".strip()
        if link:
            yield _line(link, options, "dim" if progress.is_reached else "bold red")

    def _metrics(self, options: ConsoleOptions) -> Iterator[Text]:
        progress = self._progress
        yield from _wrap(progress.metrics_text() or _("no results yet"), options)
        if evaluation := progress.evaluation_text():
            values = progress.evaluated.values()
            sparks = sparkline(values, width=_SPARKS, ascii_only=options.ascii_only)
            yield _line(evaluation, options, "green").append(
                f"  {sparks}" if len(values) > 1 else ""
            )
        if machine := progress.machine_text():
            yield from _wrap(machine, options)
        if self._traffic.requests:
            yield _line(traffic_text(self._traffic), options)

    def _curve(self, options: ConsoleOptions) -> Iterator[Text]:
        losses = self._progress.losses.values()
        if len(losses) < 2:
            return
        wide = is_wide(losses)
        lowest = min(loss for loss in losses if loss > 0 or not wide)
        labels = {
            0: number(max(losses)),
            _CURVE_HEIGHT // 2: _("loss, log") if wide else _("loss"),
            _CURVE_HEIGHT - 1: number(lowest),
        }
        margin = max(map(len, labels.values()))
        width = min(options.max_width - margin - 2, _WIDEST_CURVE)
        progress = self._progress
        drawn = curve(
            losses,
            width=width,
            height=_CURVE_HEIGHT,
            ascii_only=options.ascii_only,
            share=progress.steps_done / max(progress.steps, 1),
        )
        axis = "|" if options.ascii_only else "│"
        for place, line in enumerate(drawn):
            label = f"{labels.get(place, ''):>{margin}} {axis}"
            yield Text.assemble((label, "dim"), (line, "cyan"), no_wrap=True)


def _wrap(text: str, options: ConsoleOptions) -> Iterator[Text]:
    """Wrap metrics, which are two blanks apart, into as many lines as they need."""
    line = ""
    for figure in text.split("  "):
        longer = f"{line}  {figure}" if line else figure
        if line and cell_len(longer) > options.max_width:
            yield _line(line, options)
            longer = figure
        line = longer
    yield _line(line, options)


def _line(text: str, options: ConsoleOptions, style: str = "") -> Text:
    overflow: Literal["crop", "ellipsis"] = "crop" if options.ascii_only else "ellipsis"
    return Text(text, style, overflow=overflow, no_wrap=True)
