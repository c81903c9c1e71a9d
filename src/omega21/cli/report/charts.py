"""A report's charts, by matplotlib: SVG in the page's colours, or PNG.

Colours are placeholders that `svg` replaces by the page's variables (`var(--…)`), so that a chart
is readable in the dark and the light theme. matplotlib is an extra, and loaded when the first chart
is drawn.
"""

import io
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from omega21.cli.report.blocks import Block, Chart, Charts, Text
from omega21.client.store.result_tables import Series, StoredEvaluation
from omega21.data.scores import Thresholds
from omega21.language import _
from omega21.language.figures import number, plain
from omega21.protocol.errors import ExtraMissing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#101113"
FAINT: Final = "#a0a1a3"
FIRST: Final = "#2563eb"
SECOND: Final = "#d97706"
_VARIABLES: Final = {INK: "--ink", FAINT: "--line", FIRST: "--first", SECOND: "--second"}

_SIZE: Final = (5.2, 2.9)
_POINTS: Final = 800
"""Maximum number of points of a curve: longer curves are averaged."""

_SMOOTHED: Final = 0.05
"""Share of the curve that a smoothed value averages."""

_STRENGTHS: Final = 6
_ROWS: Final = 32
"""Of a heat map: strengths of each of its two colours, and maximum number of rows."""

_CORNERS: Final = ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
_OUTLINE: Final = (1, 2, 2, 2, 79)
"""Of a cell, and what matplotlib calls them: MOVETO, three times LINETO, CLOSEPOLY."""

_LEAST_LOSS: Final = 1e-8
"""Lower losses, and those of exactly 0, are drawn here: the scale is logarithmic."""

_STYLE: Final[dict[Any, Any]] = {
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 9,
    "grid.alpha": 0.35,
    "grid.color": FAINT,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def loss(series: Series, evaluations: Sequence[StoredEvaluation]) -> "Figure":
    """Loss by step, smoothed loss, and the loss of the held-out samples."""
    figure, axes = _axes(_("step"), _("loss"))
    steps, values = series.step, np.maximum(series.loss, _LEAST_LOSS)
    axes.plot(*_averaged(steps, values), color=FAINT, linewidth=0.9, label=_("each step"))
    is_wide = np.nanmax(values, initial=0) > 100 * np.nanmin(values, initial=np.inf)
    smoothed = np.exp(_smooth(np.log(values))) if is_wide else _smooth(values)
    axes.plot(*_averaged(steps, smoothed), color=FIRST, label=_("smoothed"))
    if evaluations:
        places = [found.evaluation.step for found in evaluations]
        losses = np.array([found.evaluation.loss for found in evaluations], np.float64)
        held_out = np.maximum(losses, _LEAST_LOSS)
        axes.plot(places, held_out, "o", color=SECOND, markersize=4, label=_("held-out samples"))
    if is_wide:
        _logarithmic(axes)
    axes.legend()
    return figure


def metric(
    name: str, *, label: str, series: Series, evaluations: Sequence[StoredEvaluation]
) -> "Figure":
    """Return a metric by step: of each step, smoothed, and of the held-out samples."""
    figure, axes = _axes(_("step"), label)
    if (values := series.metrics.get(name)) is not None:
        axes.plot(*_averaged(series.step, values), color=FAINT, linewidth=0.9, label=_("each step"))
        axes.plot(*_averaged(series.step, _smooth(values)), color=FIRST, label=_("smoothed"))
    found = [one.evaluation for one in evaluations if name in one.evaluation.metrics]
    if found:
        places = [one.step for one in found]
        held_out = [_or_nan(one.metrics[name]) for one in found]
        axes.plot(places, held_out, "o", color=SECOND, markersize=4, label=_("held-out samples"))
    axes.legend()
    return figure


def throughput(series: Series) -> "Figure":
    """Samples per second of each step, by the server's clock."""
    figure, axes = _axes(_("step"), _("samples per second"))
    seconds = np.where(series.seconds > 0, series.seconds, np.nan)
    axes.plot(*_averaged(series.step, series.samples / seconds), color=FIRST)
    axes.set_ylim(bottom=0)
    return figure


def evaluations(found: Sequence[StoredEvaluation]) -> "Figure":
    """AUROC and average precision of the evaluations."""
    figure, axes = _axes(_("step"), _("on held-out samples"))
    steps = [one.evaluation.step for one in found]
    aurocs = [_or_nan(one.evaluation.metrics.get("auroc")) for one in found]
    precisions = [_or_nan(one.evaluation.metrics.get("average_precision")) for one in found]
    axes.plot(steps, aurocs, "o-", color=FIRST, markersize=4, label="AUROC")
    axes.plot(steps, precisions, "s--", color=SECOND, markersize=4, label=_("average precision"))
    known = [value for value in (*aurocs, *precisions) if np.isfinite(value)]
    axes.set_ylim(max(0.0, min(known, default=0.0) - 0.05), 1.01)
    axes.legend()
    return figure


def heat_map(label: str, steps: Sequence[int], values: NDArray[np.float32]) -> "Figure":
    """Return a vector [n, size] over n steps: a column for each, stronger where it is larger.

    A path for each of a few strengths: a shape for each cell would make a page of megabytes, and a
    picture has no colours of the page.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    figure, axes = _axes(_("step"), label)
    rows = _averaged_rows(values.T)
    most = float(np.abs(rows).max(initial=0.0)) or 1.0
    strengths = np.rint(rows / most * _STRENGTHS).astype(int)
    for strength in range(-_STRENGTHS, _STRENGTHS + 1):
        cells = np.argwhere(strengths == strength)[:, ::-1]
        if strength and len(cells):
            corners = (cells[:, None] + np.array(_CORNERS)).reshape(-1, 2)
            path = Path(corners, np.tile(_OUTLINE, len(cells)))
            colour, alpha = FIRST if strength > 0 else SECOND, abs(strength) / _STRENGTHS
            axes.add_patch(PathPatch(path, facecolor=colour, alpha=alpha, linewidth=0))
    axes.set(xlim=(0, len(steps)), ylim=(len(rows), 0))
    axes.set_xticks([0.5, len(steps) - 0.5], [plain(steps[0]), plain(steps[-1])])
    axes.set_yticks([0.5, len(rows) - 0.5], [plain(1), plain(values.shape[1])])
    axes.grid(visible=False)
    axes.set_title(_("from {low} to {high}").format(low=number(-most), high=number(most)))
    return figure


def _averaged_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average neighbouring rows down to a number that can be told apart."""
    if len(rows) <= _ROWS:
        return rows
    bounds = np.linspace(0, len(rows), _ROWS + 1).astype(int)[:-1]
    sizes = np.diff([*bounds, len(rows)])
    averaged = np.add.reduceat(rows, bounds, axis=0) / sizes[:, None]
    return averaged.astype(np.float32)


def roc(curve: Thresholds) -> "Figure":
    """True positive rate against false positive rate, for every threshold."""
    figure, axes = _axes(_("false positive rate"), _("true positive rate"))
    axes.plot([0, 1], [0, 1], ":", color=FAINT)
    axes.step([0, *curve.fall_out], [0, *curve.recall], where="post", color=FIRST)
    best = curve.best()
    axes.plot(curve.fall_out[best], curve.recall[best], "o", color=SECOND)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return figure


def precision_recall(curve: Thresholds) -> "Figure":
    """Precision against recall, for every threshold."""
    figure, axes = _axes(_("recall"), _("precision"))
    axes.step([0, *curve.recall], [curve.precision[0], *curve.precision], color=FIRST)
    best = curve.best()
    axes.plot(curve.recall[best], curve.precision[best], "o", color=SECOND)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return figure


def distribution(
    scores: NDArray[np.float64], labels: NDArray[np.float64], *, threshold: float
) -> "Figure":
    """Histogram of the scores of each class, with counts on a log scale."""
    figure, axes = _axes(_("score"), _("samples"))
    bins = np.linspace(min(0.0, *scores), max(1.0, *scores), 41).tolist()
    kinds = ((_("negatives"), 0, FIRST, ""), (_("positives"), 1, SECOND, "///"))
    for name, label, colour, hatch in kinds:
        axes.hist(
            scores[labels == label],
            bins=bins,
            label=name,
            color=colour,
            edgecolor=colour,
            alpha=0.55,
            hatch=hatch,
        )
    axes.axvline(threshold, color=INK, linestyle="--", linewidth=1)
    _logarithmic(axes)
    axes.set_ylim(bottom=0.8)
    axes.legend()
    return figure


def as_block(drawn: Sequence[Chart]) -> Block:
    """Show charts; without the library that draws them, say how to install it."""
    if find_spec("matplotlib") is None:
        return Text(str(ExtraMissing.of("report", for_what=_("drawing charts"))))
    return Charts(drawn)


def svg(chart: Chart) -> str:
    """Return a chart as an <svg> element in the page's colours; equal charts give equal text."""
    text = _drawn(chart, format="svg", metadata={"Date": None}, transparent=True).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    # Ids are unique in the whole page, which has several charts.
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{chart.name}-", text)


def png(chart: Chart) -> bytes:
    """Return a chart as a PNG image on white."""
    return _drawn(chart, format="png", dpi=160, facecolor="white", metadata={"Software": None})


def _drawn(chart: Chart, **options: Any) -> bytes:
    import matplotlib as mpl

    file = io.BytesIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": chart.name}):
        chart.draw().savefig(file, **options)
    return file.getvalue()


def _axes(across: str, up: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_tick_label)
    return figure, axes


def _tick_label(value: float, _place: float | None = None) -> str:
    return plain(value)


def _logarithmic(axes: "Axes") -> None:
    """Use a logarithmic scale with plain-text labels."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_tick_label)
    axes.yaxis.set_minor_formatter("")


def _averaged(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average a curve down to a visible number of points."""
    if len(steps) <= _POINTS:
        return steps, values
    bounds = np.linspace(0, len(steps), _POINTS + 1).astype(int)[:-1]
    sizes = np.diff([*bounds, len(steps)])
    return np.add.reduceat(steps, bounds) / sizes, np.add.reduceat(values, bounds) / sizes


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over a window that is truncated at the ends."""
    half = int(len(values) * _SMOOTHED / 2)
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    size = counts[high] - counts[low]
    smoothed: NDArray[np.float64] = np.where(
        size > 0, (sums[high] - sums[low]) / np.maximum(size, 1), np.nan
    )
    return smoothed


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
