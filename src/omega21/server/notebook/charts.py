"""The curves of a run, drawn in the notebook from the server's own results.

Results are read by cursor, so each is fetched once; matplotlib is the notebook's.
"""

import importlib
import io
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from omega21.language import _
from omega21.protocol.printable import printable
from omega21.server.notebook.cell import StatusLine, describe
from omega21.server.notebook.problem import CannotServe
from omega21.server.notebook.process import NotebookServer

_WAIT_SECONDS: Final = 5
_MOST_METRICS: Final = 1
"""Metrics that are drawn beside the loss: a cell is not wide."""


@dataclass
class Curves:
    """The results of one run so far; `cursor` is the last step that was fetched."""

    run: str
    cursor: int = 0
    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def extend(self, rows: list[dict[str, Any]]) -> None:
        """Add results; a step that was not applied has no loss."""
        for row in rows:
            self.cursor = row["step"]
            if row.get("loss") is None:
                continue
            for name, value in row.get("metrics", {}).items():
                missing = [math.nan] * (len(self.steps) - len(self.metrics.get(name, ())))
                known = math.nan if value is None else value
                self.metrics.setdefault(name, []).extend([*missing, known])
            self.steps.append(row["step"])
            self.loss.append(row["loss"])

    def drawn(self) -> list[tuple[str, list[float]]]:
        """Return what is drawn, by name: the loss, and the first metrics."""
        padded = {
            name: [*values, *[math.nan] * (len(self.steps) - len(values))]
            for name, values in self.metrics.items()
        }
        return [(_("loss"), self.loss), *list(padded.items())[:_MOST_METRICS]]


def watch_run(server: NotebookServer) -> None:
    """Draw the curves of the run that works, until interrupted or the server ends.

    Raises CannotServe without matplotlib.
    """
    draw = _drawing()
    curves: dict[str, Curves] = {}
    shown: str | None = None
    status = StatusLine(sys.stdout.write)
    try:
        while server.is_running:
            shown = _busiest(server, shown)
            if shown is None:
                status.show(_("waiting for a run"))
                _tell(server, wait=_WAIT_SECONDS)
            else:
                _follow(server, curves.setdefault(shown, Curves(shown)), draw)
                _tell(server, wait=0)
    except KeyboardInterrupt:
        print(_("no longer watching; the server keeps running"))  # noqa: T201


def _tell(server: NotebookServer, *, wait: float) -> None:
    """Print what the server says, such as a new address, waiting so long for it."""
    for line in server.news(wait=wait):
        print(printable(line))  # noqa: T201


def _busiest(server: NotebookServer, shown: str | None) -> str | None:
    """Return the run with the most steps before it; the one that is shown, where none has any."""
    reply = server.ask("/runs") or {"runs": []}
    left = {
        run["run"]: run["plan_steps"] - run["step"] for run in reply["runs"] if run["plan_steps"]
    }
    if not left:
        return shown
    busiest = max(left, key=left.__getitem__)
    return busiest if left[busiest] or shown not in left else shown


def _follow(server: NotebookServer, curves: Curves, draw: Callable[[Curves, str], None]) -> None:
    """Fetch what is new, waiting some seconds for it, and draw it."""
    reply = server.ask(f"/runs/{curves.run}/steps?after={curves.cursor}&wait={_WAIT_SECONDS}")
    if reply is None:  # between two server processes
        _tell(server, wait=_WAIT_SECONDS)
    elif reply["steps"]:
        curves.extend(reply["steps"])
        draw(curves, describe({"runs": [reply]}))


def _drawing() -> Callable[[Curves, str], None]:
    """Return what draws curves in place of those drawn before."""
    try:
        figures: Any = importlib.import_module("matplotlib.figure")
        display: Any = importlib.import_module("IPython.display")
    except ModuleNotFoundError as error:
        raise CannotServe(
            _("{name} is not installed here: no curves; pip install {name}").format(name=error.name)
        ) from error

    def draw(curves: Curves, title: str) -> None:
        drawn = curves.drawn()
        figure = figures.Figure(  # without pyplot: no backend has a say in it
            figsize=(5.5 * len(drawn), 3.2)
        )
        for place, (name, values) in zip(
            figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True
        ):
            place.plot(curves.steps, values, linewidth=1)
            place.set_xlabel(_("step"))
            place.set_ylabel(name)
        figure.suptitle(title, fontsize=10)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", bbox_inches="tight")
        display.clear_output(wait=True)
        display.display(display.Image(data=picture.getvalue()))

    return draw
