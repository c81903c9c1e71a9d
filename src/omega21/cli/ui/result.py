"""What a training came to, in the terminal, for people."""

from rich.text import Text

from omega21.cli.ui.output import Output, facts
from omega21.client.events import Done
from omega21.client.store.summary import Evaluation, Summary
from omega21.language import _, ngettext
from omega21.language.figures import count, number, score


def show_outcome(done: Done, output: Output) -> None:
    """Print the figures of a training that has ended."""
    shown = outcome(
        done.summary, done.evaluation, step=done.state.step, planned=done.state.plan_steps
    )
    output.result(done.summary.as_dict(), shown)


def outcome(
    figures: Summary, evaluation: Evaluation | None, *, step: int, planned: int | None = None
) -> Text:
    """Lay out what was trained, up to `step` of those planned, and what the model learned."""
    place = _("{run}, at step {step}")
    if planned is not None and step < planned:
        place = _("{run}, at step {step} of {planned}")
    return facts(
        [
            (
                _("run"),
                place.format(run=figures.run, step=count(step), planned=count(planned or step)),
            ),
            (
                _("trained"),
                _("{samples} samples ({kind}, seed {seed})").format(
                    samples=count(figures.samples), kind=figures.kind, seed=figures.seed
                ),
            ),
            (_("steps"), _steps(figures)),
            *_non_finite(figures),
            (
                _("loss"),
                _("{first} first, {last} last").format(
                    first=number(figures.loss_first), last=number(figures.loss_last)
                ),
            ),
            *_scores(figures, evaluation, step=step),
            (_("speed"), _speed(figures)),
            *([(_("weights"), figures.weights_sha256)] if figures.weights_sha256 else []),
            *_reservations(figures),
        ]
    )


def _steps(figures: Summary) -> str:
    text = ngettext(
        "{steps} of {batch_size} samples, {epochs} epoch",
        "{steps} of {batch_size} samples, {epochs} epochs",
        figures.epochs,
    )
    return text.format(
        steps=count(figures.steps),
        batch_size=count(figures.batch_size),
        epochs=count(figures.epochs),
    )


def _non_finite(figures: Summary) -> list[tuple[str, str]]:
    if not figures.non_finite_steps:
        return []
    text = _("{count} of {steps} steps trained nothing: loss or gradient was not finite")
    told = text.format(count=count(figures.non_finite_steps), steps=count(figures.steps))
    return [(_("not finite"), told)]


def _speed(figures: Summary) -> str:
    rate = _("{rate} samples/s").format(rate=number(figures.samples_per_second, 0))
    if not figures.seconds:  # looked at from outside, where the command's own time is not known
        return rate
    return _("{rate}; {seconds} s in all").format(rate=rate, seconds=number(figures.seconds, 1))


def _reservations(figures: Summary) -> list[tuple[str, str]]:
    """Say why the bits may not come out the same again, where they may not."""
    rows = []
    if not figures.deterministic:
        rows.append((_("fast"), _("equal bits were given up for speed (--fast)")))
    if figures.environment_changed_at:
        steps = ", ".join(map(str, figures.environment_changed_at))
        rows.append(
            (
                _("conditions"),
                _("others than before from step {steps} on; see log.jsonl").format(steps=steps),
            )
        )
    return rows


def _scores(figures: Summary, evaluation: Evaluation | None, *, step: int) -> list[tuple[str, str]]:
    if evaluation is None and figures.validation_samples:
        text = _("{samples} samples, which were not scored yet")
        return [(_("held out"), text.format(samples=count(figures.validation_samples)))]
    if evaluation is None and not figures.seconds:  # looked at: what was asked for is not known
        return [(_("held out"), _("no scores are known here"))]
    if evaluation is None:
        return [(_("held out"), _("nothing, so there are no scores"))]
    scored = _("{auroc} on {samples} held-out samples")
    if evaluation.step != step:
        scored = _("{auroc} at step {step}, on {samples} held-out samples")
    false_alarms = ngettext(
        "{count} false alarm", "{count} false alarms", evaluation.false_alarms
    ).format(count=count(evaluation.false_alarms))
    return [
        (
            "AUROC",
            scored.format(
                auroc=score(evaluation.auroc),
                step=count(evaluation.step),
                samples=count(evaluation.samples),
            ),
        ),
        *(
            [
                (
                    _("not finite"),
                    _("{count} held-out samples score NaN or infinite").format(
                        count=count(evaluation.not_finite)
                    ),
                )
            ]
            if evaluation.not_finite
            else []
        ),
        (_("avg. precision"), score(evaluation.average_precision)),
        (
            _("anomalies"),
            _("{found} of {anomalies} found, {false_alarms}").format(
                found=count(evaluation.found),
                anomalies=count(evaluation.anomalies),
                false_alarms=false_alarms,
            ),
        ),
    ]
