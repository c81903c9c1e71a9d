"""The result of a training, for people."""

from rich.text import Text

from omega21.cli.metric_text import (
    first_metric,
    metric_name,
    metric_rows,
    metric_value,
    shown_metrics,
)
from omega21.cli.ui.output import Output, key_values
from omega21.client.events import Done
from omega21.client.store.summary import Summary
from omega21.language import _, ngettext
from omega21.language.figures import count, number
from omega21.models.registry import is_built_in
from omega21.protocol.evaluations import SCORE_COUNTS, Evaluation
from omega21.protocol.metrics import LOSS


def show_outcome(done: Done, output: Output) -> None:
    """Print the result of a training."""
    shown = outcome(
        done.summary, done.evaluation, step=done.state.step, planned=done.state.plan_steps
    )
    output.result(done.summary.as_dict(), shown)


def outcome(
    summary: Summary, evaluation: Evaluation | None, *, step: int, planned: int | None = None
) -> Text:
    """Format what was trained, up to `step` of `planned` steps, and the evaluation."""
    place = _("{run}, at step {step}")
    if planned is not None and step < planned:
        place = _("{run}, at step {step} of {planned}")
    return key_values(
        [
            (
                _("run"),
                place.format(run=summary.run, step=count(step), planned=count(planned or step)),
            ),
            (
                _("trained"),
                _("{samples} samples ({kind}, seed {seed})").format(
                    samples=count(summary.samples), kind=summary.kind, seed=summary.seed
                ),
            ),
            (_("steps"), _steps(summary)),
            *_non_finite(summary),
            (
                _("loss"),
                _("{first} first, {last} last").format(
                    first=number(summary.loss_first), last=number(summary.loss_last)
                ),
            ),
            *([] if evaluation else _trained_metrics(summary)),
            *_evaluated(summary, evaluation, step=step),
            (_("speed"), _speed(summary)),
            *([(_("weights"), summary.weights_sha256)] if summary.weights_sha256 else []),
            *_reservations(summary),
        ]
    )


def _steps(summary: Summary) -> str:
    text = ngettext(
        "{steps} of {batch_size} samples, {epochs} epoch",
        "{steps} of {batch_size} samples, {epochs} epochs",
        summary.epochs,
    )
    return text.format(
        steps=count(summary.steps),
        batch_size=count(summary.batch_size),
        epochs=count(summary.epochs),
    )


def _trained_metrics(summary: Summary) -> list[tuple[str, str]]:
    """Return the metrics of the last step, for a run without an evaluation."""
    metrics = summary.training_metrics
    return metric_rows(summary.task, metrics, shown_metrics(summary.task, metrics))


def _non_finite(summary: Summary) -> list[tuple[str, str]]:
    if not summary.non_finite_steps:
        return []
    text = _("{count} of {steps} steps changed nothing: loss or gradient was not finite")
    told = text.format(count=count(summary.non_finite_steps), steps=count(summary.steps))
    return [(_("not finite"), told)]


def _speed(summary: Summary) -> str:
    rate = _("{rate} samples/s").format(rate=number(summary.samples_per_second, 0))
    if not summary.seconds:  # looked at from outside, where the command's own time is not known
        return rate
    return _("{rate}; {seconds} s in all").format(rate=rate, seconds=number(summary.seconds, 1))


def _reservations(summary: Summary) -> list[tuple[str, str]]:
    """Return why a repetition may differ, where it may."""
    rows = []
    if not summary.deterministic:
        rows.append((_("fast"), _("nondeterministic kernels were allowed for speed (--fast)")))
    if summary.environment_changed_at:
        steps = ", ".join(map(str, summary.environment_changed_at))
        rows.append(
            (
                _("conditions"),
                _("changed from step {steps} on; see log.jsonl").format(steps=steps),
            )
        )
    return rows


def _evaluated(
    summary: Summary, evaluation: Evaluation | None, *, step: int
) -> list[tuple[str, str]]:
    if evaluation is None and summary.validation_samples:
        text = _("{samples} samples, not scored yet")
        return [(_("held out"), text.format(samples=count(summary.validation_samples)))]
    if evaluation is None and not summary.seconds:  # looked at: what was asked for is not known
        return [(_("held out"), _("the scores are not on this machine"))]
    if evaluation is None:
        return [(_("held out"), _("nothing, so there are no scores"))]
    name, value = first_metric(summary.task, evaluation)
    scored = _("{value} on {samples} held-out samples")
    if evaluation.step != step:
        scored = _("{value} at step {step}, on {samples} held-out samples")
    text = scored.format(
        value=metric_value(name, value),
        step=count(evaluation.step),
        samples=count(evaluation.samples),
    )
    first = _("held-out loss") if name == LOSS else metric_name(summary.task, name)
    others = [other for other in shown_metrics(summary.task, evaluation.metrics) if other != name]
    if name == "auroc" and is_built_in(summary.task):
        others = []  # its scores say more than the means of its metrics
    return [
        (first, text),
        *_not_finite(evaluation),
        *_classified(evaluation.metrics),
        *metric_rows(summary.task, evaluation.metrics, others),
    ]


def _not_finite(evaluation: Evaluation) -> list[tuple[str, str]]:
    if not evaluation.not_finite:
        return []
    text = _("{count} held-out samples score NaN or infinite")
    return [(_("not finite"), text.format(count=count(evaluation.not_finite)))]


def _classified(metrics: dict[str, float | None]) -> list[tuple[str, str]]:
    """Return what was found of a target of 0 and 1; nothing for a task that gives no scores."""
    positives, found, wrong = (metrics.get(name) for name in SCORE_COUNTS)
    if positives is None or found is None or wrong is None:
        return []
    false_positives = ngettext(
        "{count} false positive", "{count} false positives", int(wrong)
    ).format(count=count(int(wrong)))
    text = _("{found} of {positives} found, {false_positives}").format(
        found=count(int(found)), positives=count(int(positives)), false_positives=false_positives
    )
    precision = metrics.get("average_precision")
    return [
        (_("avg. precision"), metric_value("average_precision", precision)),
        (_("positives"), text),
    ]
