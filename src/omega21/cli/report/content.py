"""The content of a report, from the run folder only; nothing is computed a second time."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omega21.cli.metric_text import metric_name, metric_value, shown_metrics
from omega21.cli.report import charts
from omega21.cli.report.blocks import (
    Block,
    Chart,
    Commands,
    KeyValues,
    Report,
    Section,
    Table,
    Text,
)
from omega21.cli.report.held_out import held_out
from omega21.cli.report.repeating import commands, reservation
from omega21.client.run_reader import StoredRun
from omega21.client.store.result_tables import Series, StoredEvaluation
from omega21.data.scores import thresholds
from omega21.language import _
from omega21.language.borrowed import translated
from omega21.language.figures import count, dated, duration, number, percent
from omega21.protocol.evaluations import SCORE_AREAS, SCORE_METRICS, Evaluation
from omega21.protocol.metrics import LOSS
from omega21.protocol.plan import plan_sha256, plan_steps
from omega21.protocol.steps import MOST_NON_FINITE_IN_A_ROW


def make_report(stored: StoredRun, *, run_is_kept: bool = True) -> Report:
    """Compose a run's report; a run with little data has a short one.

    The report of a run whose folder is not kept contains no command that needs the folder.
    """
    series, evaluations = stored.results.series(), stored.results.evaluations()
    task = stored.record.config.task.kind
    finished = [line for line in stored.log() if line.get("what") == "finished"]
    server: dict[str, Any] = finished[-1].get("server", {}) if finished else {}
    scores, labels = stored.results.scores()
    curve = thresholds(scores, labels) if 0 < np.sum(labels) < len(labels) else None
    sections = [
        _ended(stored),
        _trained(stored),
        _curves(series, evaluations, task=task),
        _vectors(stored.results.vectors(), task=task),
        held_out(stored, evaluations, scores=(scores, labels), curve=curve),
        _feedback(server),
        _survived(stored, server),
        _repeating(stored, run_is_kept=run_is_kept),
    ]
    position = _("step {step} of {steps}").format(
        step=count(stored.results.last_step), steps=count(plan_steps(stored.segments))
    )
    subtitle = _("made {moment}, {position}").format(
        moment=dated(stored.record.created_at), position=position
    )
    return Report(
        title=stored.record.run,
        subtitle=subtitle,
        highlights=_highlights(series, evaluations, task=task),
        sections=[section for section in sections if section.blocks],
        footer=_("Written by omega21 from {path}").format(path=stored.path),
    )


def _highlights(
    series: Series, evaluations: Sequence[StoredEvaluation], *, task: str
) -> list[tuple[str, str]]:
    found = [(_("steps"), count(len(series.step)))]
    if evaluations:
        newest, last = evaluations[-1].evaluation, int(series.step[-1]) if len(series.step) else 0
        found += [
            (_at(newest.step, metric_name(task, name), last), metric_value(name, value))
            for name, value in _telling(newest, task)
        ]
    if len(series.step):
        seconds = float(np.sum(series.seconds))
        found.append((_("last loss"), number(_known(series.loss[-1]))))
        found.append((_("computed for"), duration(seconds)))
        if seconds:
            rate = float(np.sum(series.samples)) / seconds
            found.append((_("samples per second"), number(rate, 0)))
    return found


def _telling(evaluation: Evaluation, task: str) -> list[tuple[str, float | None]]:
    """Return the two metrics of an evaluation that a reader looks for first."""
    metrics = evaluation.metrics
    names = [name for name in SCORE_AREAS if name in metrics] or shown_metrics(task, metrics)
    return [(name, metrics[name]) for name in names[:2]] or [(LOSS, evaluation.loss)]


def _at(step: int, name: str, last: int) -> str:
    """Name a figure, with the step of its weights if the run is at another step."""
    if step == last:
        return name
    return _("{figure} at step {step}").format(figure=name, step=count(step))


def _ended(stored: StoredRun) -> Section:
    """Describe a divergence, its first step and what to do; None for a run without one."""
    title = _("Failure")
    last = stored.results.last_step
    first = last - MOST_NON_FINITE_IN_A_ROW + 1
    if first < 1 or not all(row.non_finite for row in stored.results.rows(first=first, last=last)):
        return Section(title, [])
    text = _(
        "The run diverged: the results of its last {count} steps, from step {step} on, were not "
        "finite and changed nothing. Look for values out of range in the samples of those steps; "
        "then scale the data and train another run with --run."
    ).format(count=count(MOST_NON_FINITE_IN_A_ROW), step=count(first))
    return Section(title, [Text(text)])


def _trained(stored: StoredRun) -> Section:
    config = stored.record.config
    task = {"kind": config.task.kind, **config.task.config}
    entries = [
        (_("run"), f"{stored.record.run} ({stored.record.id})"),
        (_("model"), _settings(task)),
        (_("optimizer"), _settings(config.optimizer.model_dump())),
        (_("server last used"), stored.record.server or "-"),
    ]
    titles = (_("samples"), _("kind"), _("anomalies"), _("from"), _("batch"), _("epochs"))
    rows = [
        (
            count(segment.samples),
            segment.source.kind,
            "-"
            if segment.source.anomaly_percent is None
            else percent(segment.source.anomaly_percent / 100, 1),
            stored.record.files.get(segment.source.file_sha256 or "", "")
            or _("seed {seed}, from {offset} on").format(
                seed=segment.source.seed, offset=count(segment.source.offset)
            ),
            count(segment.batch_size),
            count(segment.epochs),
        )
        for segment in stored.segments
    ]
    return Section(
        _("What was trained"), [KeyValues(entries), *([Table(titles, rows)] if rows else [])]
    )


def _curves(series: Series, evaluations: Sequence[StoredEvaluation], *, task: str) -> Section:
    if not len(series.step):
        return Section(_("Training"), [Text(_("There are no results yet."))])
    evaluated = dict.fromkeys(name for one in evaluations for name in one.evaluation.metrics)
    drawn = [
        Chart("loss", _("Loss by step"), lambda: charts.loss(series, evaluations)),
        *(
            _metric_chart(name, task=task, series=series, evaluations=evaluations)
            for name in dict.fromkeys([*series.metrics, *evaluated])
            if name not in SCORE_METRICS or name in series.metrics
        ),
        Chart("throughput", _("Samples per second"), lambda: charts.throughput(series)),
    ]
    if len(evaluations) > 1 and "auroc" in evaluated:
        drawn.append(
            Chart(
                "evaluations",
                _("Scores of held-out samples by step"),
                lambda: charts.evaluations(evaluations),
            )
        )
    return Section(_("Training"), [charts.as_block(drawn)])


def _metric_chart(
    name: str, *, task: str, series: Series, evaluations: Sequence[StoredEvaluation]
) -> Chart:
    label = metric_name(task, name)
    return Chart(
        f"metric-{name}",
        _("{metric} by step").format(metric=label),
        lambda: charts.metric(name, label=label, series=series, evaluations=evaluations),
    )


def _vectors(found: dict[str, tuple[list[int], NDArray[np.float32]]], *, task: str) -> Section:
    """Show the vectors of a task over the steps; nothing for a task without any."""

    def chart(name: str, steps: list[int], values: NDArray[np.float32]) -> Chart:
        label = metric_name(task, name)
        caption = _("{vector}, a row for each value; stronger is larger, two colours for the sign")
        return Chart(
            f"vector-{name}",
            caption.format(vector=label),
            lambda: charts.heat_map(label, steps, values),
        )

    drawn = [chart(name, steps, values) for name, (steps, values) in found.items()]
    return Section(_("Vectors"), [charts.as_block(drawn)] if drawn else [])


def _feedback(server: dict[str, Any]) -> Section:
    found = server.get("estadisticas", {}).get("feedback", {})
    title = _("Feedback")
    if not found.get("recibido"):
        return Section(title, [Text(_("There was no feedback when the training ended."))])
    return Section(
        title,
        [
            KeyValues(
                [
                    (_("received"), count(found["recibido"])),
                    (_("validated"), count(found["exitoso"])),
                    (_("success rate"), percent(found["tasa_exito"], 1)),
                ]
            )
        ],
    )


def _survived(stored: StoredRun, server: dict[str, Any]) -> Section:
    happened = Counter(line.get("what") for line in stored.log())
    rows = [
        (_("sessions"), count(happened["connected"])),
        (_("restarts of the server's process"), count(server.get("restarts", 0))),
        (_("created again on a new server"), count(happened["moved"])),
        (_("restored from a checkpoint"), count(happened["restored"])),
        (_("results replaced by a replay"), count(happened["replaced"])),
    ]
    if server.get("last_death"):
        rows.append((_("last end of the server's process"), translated(str(server["last_death"]))))
    return Section(_("Restarts"), [KeyValues(rows)])


def _repeating(stored: StoredRun, *, run_is_kept: bool) -> Section:
    config = stored.record.config
    entries = [
        (_("seed"), str(config.seed)),
        (_("plan"), plan_sha256(stored.segments)),
        (_("results"), stored.results.last_digest),
    ]
    if weights := stored.results.weights(up_to=stored.results.last_step):
        entries.append(
            (
                _("weights"),
                _("{sha256} after step {step}").format(sha256=weights[1], step=count(weights[0])),
            )
        )
    blocks: list[Block] = [KeyValues(entries)]
    environments = stored.results.environments()
    if environments:
        titles = (
            _("from step"),
            _("device"),
            _("precision"),
            _("threads"),
            "torch",
            "omega21",
            _("same bits"),
        )
        blocks.append(
            Table(
                titles,
                [
                    (
                        count(one.from_step),
                        one.device,
                        one.precision,
                        count(one.threads),
                        one.torch_version,
                        one.omega21_version,
                        _("yes") if one.deterministic else _("no (--fast)"),
                    )
                    for one in environments
                ],
            )
        )
    blocks.append(Text(_("Train it again from the start:")))
    blocks.append(Commands(commands(stored.record, stored.segments)))
    if left_out := reservation(stored.record, stored.segments):
        blocks.append(Text(_("The commands leave out: {what}.").format(what=left_out)))
    if run_is_kept:
        blocks.append(Text(_("Execute it again and compare every result:")))
        blocks.append(Commands([f"omega21 verify {stored.record.run}"]))
    return Section(_("Reproducing it"), blocks)


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
