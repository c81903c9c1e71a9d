"""What a training came to, in the terminal, for people."""

from rich.text import Text

from omega21.cli.output import Output, facts
from omega21.client.events import Done
from omega21.client.summary import Evaluation, Summary
from omega21.language import _, ngettext
from omega21.language.figures import count, number


def show_outcome(done: Done, output: Output) -> None:
    """Print the figures of a training that has ended."""
    shown = outcome(done.summary, done.evaluation, step=done.state.step)
    output.result(done.summary.as_dict(), shown)


def outcome(figures: Summary, evaluation: Evaluation | None, *, step: int) -> Text:
    """Lay out what was trained, up to `step`, and what the model learned."""
    return facts(
        [
            (
                _("run"),
                _("{run}, at step {step}").format(run=figures.run, step=count(step)),
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
            *_scores(evaluation),
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
    if figures.conditions_changed_at:
        steps = ", ".join(map(str, figures.conditions_changed_at))
        rows.append(
            (
                _("conditions"),
                _("others than before from step {steps} on; see log.jsonl").format(steps=steps),
            )
        )
    return rows


def _scores(evaluation: Evaluation | None) -> list[tuple[str, str]]:
    if evaluation is None:
        return [(_("held out"), _("nothing, so there are no scores"))]
    false_alarms = ngettext(
        "{count} false alarm", "{count} false alarms", evaluation.false_alarms
    ).format(count=count(evaluation.false_alarms))
    return [
        (
            "AUROC",
            _("{auroc} on {samples} held-out samples").format(
                auroc=number(evaluation.auroc), samples=count(evaluation.samples)
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
        (_("avg. precision"), number(evaluation.average_precision)),
        (
            _("anomalies"),
            _("{found} of {anomalies} found, {false_alarms}").format(
                found=count(evaluation.found),
                anomalies=count(evaluation.anomalies),
                false_alarms=false_alarms,
            ),
        ),
    ]
