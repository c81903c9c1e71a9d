"""The curves of a run, drawn in the notebook from the server's own results.

Results are read by cursor, so each is fetched once; matplotlib is the notebook's.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from omega21.language import _
from omega21.server.notebook.cell import StatusLine, describe
from omega21.server.notebook.problem import CannotServe
from omega21.server.notebook.process import ServerProcess

_WAIT_SECONDS: Final = 5
_DONE: Final = ("idle", "paused", "diverged", "failed")


@dataclass
class Curves:
    """The results of one run so far."""

    run: str
    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    anomaly_prob: list[float] = field(default_factory=list)

    def extend(self, rows: list[dict[str, Any]]) -> None:
        """Add results; those of steps that were not applied have no loss."""
        for row in rows:
            if row["loss"] is not None and row["anomaly_prob"] is not None:
                self.steps.append(row["step"])
                self.loss.append(row["loss"])
                self.anomaly_prob.append(row["anomaly_prob"])


def watch_run(
    server: ServerProcess, *, run: str | None = None, until_done: bool = False
) -> Curves | None:
    """Draw a run's curves until interrupted, or the run or the server ends; None for no run.

    Without `run`, the one that has the most before it. Raises CannotServe without matplotlib.
    """
    draw = _drawing()
    curves: Curves | None = None
    status = StatusLine(print)
    try:
        while server.is_running:
            for line in server.news(wait=0):
                print(line)  # noqa: T201
            curves = curves or _chosen(server, run)
            if curves is None:
                status.show(_("waiting for a run"))
                list(server.news(wait=_WAIT_SECONDS))
            elif _follow(server, curves, draw) and until_done:
                break
    except KeyboardInterrupt:
        print(_("no longer watching; the server goes on"))  # noqa: T201
    return curves


def _follow(server: ServerProcess, curves: Curves, draw: Callable[[Curves, str], None]) -> bool:
    """Fetch what is new and draw it; whether the run has come to rest."""
    after = curves.steps[-1] if curves.steps else 0
    reply = server.ask(f"/runs/{curves.run}/steps?after={after}&wait={_WAIT_SECONDS}")
    if reply is None:
        return False
    curves.extend(reply["steps"])
    draw(curves, describe({"runs": [reply]}))
    return reply["state"] in _DONE and not reply["steps"]


def _chosen(server: ServerProcess, run: str | None) -> Curves | None:
    if run is not None:
        return Curves(run)
    reply = server.ask("/runs")
    found = [one for one in (reply or {"runs": []})["runs"] if one["plan_steps"]]
    if not found:
        return None
    return Curves(max(found, key=lambda one: one["plan_steps"] - one["step"])["run"])


def _drawing() -> Callable[[Curves, str], None]:
    """Return what draws curves in place of those drawn before."""
    try:
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
        display: Any = importlib.import_module("IPython.display")
    except ModuleNotFoundError as error:
        raise CannotServe(
            _("{name} is not installed here: no curves; pip install {name}").format(name=error.name)
        ) from error
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.2))
    pyplot.close(figure)  # it is shown by hand, once, and then altered

    def draw(curves: Curves, title: str) -> None:
        for place, values, name in (
            (axes[0], curves.loss, _("loss")),
            (axes[1], curves.anomaly_prob, _("anomaly probability")),
        ):
            place.clear()
            place.plot(curves.steps, values, linewidth=1)
            place.set_xlabel(_("step"))
            place.set_ylabel(name)
        figure.suptitle(title, fontsize=10)
        display.clear_output(wait=True)
        display.display(figure)

    return draw
