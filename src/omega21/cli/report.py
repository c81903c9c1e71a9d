"""The report at the end of a training, for people."""

from rich.text import Text

from omega21.cli.output import facts
from omega21.cli.progress import number
from omega21.client.events import Done
from omega21.client.summary import Evaluation, Summary


def report(done: Done) -> Text:
    """Lay out what was trained and what the model learned."""
    figures = done.summary
    epochs = "1 epoch" if figures.epochs == 1 else f"{figures.epochs} epochs"
    return facts(
        [
            ("run", f"{figures.run}, at step {done.state.step}"),
            ("trained", f"{figures.samples} samples ({figures.kind}, seed {figures.seed})"),
            ("steps", f"{figures.steps} of {figures.batch_size} samples, {epochs}"),
            ("loss", f"{number(figures.loss_first)} first, {number(figures.loss_last)} last"),
            *_scores(done.evaluation),
            (
                "speed",
                f"{figures.samples_per_second:.0f} samples/s; {figures.seconds:.1f} s in all",
            ),
            ("weights", figures.weights_sha256),
            *_reservations(figures),
        ]
    )


def _reservations(figures: Summary) -> list[tuple[str, str]]:
    """Say why the bits may not come out the same again, where they may not."""
    rows = []
    if not figures.deterministic:
        rows.append(("fast", "equal bits were given up for speed (--fast)"))
    if figures.conditions_changed_at:
        steps = ", ".join(map(str, figures.conditions_changed_at))
        rows.append(("conditions", f"others than before from step {steps} on; see log.jsonl"))
    return rows


def _scores(evaluation: Evaluation | None) -> list[tuple[str, str]]:
    if evaluation is None:
        return [("held out", "nothing, so there are no scores")]
    false_alarms = "1 false alarm" if evaluation.false_alarms == 1 else "{} false alarms"
    return [
        ("AUROC", f"{number(evaluation.auroc)} on {evaluation.samples} held-out samples"),
        ("avg. precision", number(evaluation.average_precision)),
        (
            "anomalies",
            f"{evaluation.found} of {evaluation.anomalies} found, "
            + false_alarms.format(evaluation.false_alarms),
        ),
    ]
