"""The summary of a trained segment, computed from its results."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omega21.protocol.evaluations import Evaluation
from omega21.protocol.plan import Segment
from omega21.protocol.steps import StepRecord


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """An evaluation with its float32 scores [n] and labels [n], in their order.

    Without them where the task gives no scores.
    """

    evaluation: Evaluation
    scores: NDArray[np.float32] | None = None
    labels: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The configuration and the results of one segment.

    Losses are None for a step that did not count; `non_finite_steps` is how many had a loss or
    gradient that was not finite, and trained nothing. Of a segment that is not at its end, `steps`,
    `samples` and `epochs` are what was trained so far. `samples_per_second` is samples × epochs
    over the time from the first step's start to the last one's end, by the server's clock;
    `seconds` is the whole command by this machine's. `task` is the kind of the run's task.
    `training_metrics` are those of the last step. `validation_samples` were held out; their loss
    and `metrics` (such as `auroc`) are those of the weights of `evaluation_step`, None before there
    are any.
    `environment_changed_at` are steps from which on device, precision, threads or versions were
    others than before, so that the bits may differ.
    """

    run: str
    steps: int
    samples: int
    batch_size: int
    epochs: int
    kind: str
    seed: int
    loss_first: float | None
    loss_last: float | None
    validation_loss: float | None
    metrics: dict[str, float | None]
    validation_samples: int
    seconds: float
    samples_per_second: float
    weights_sha256: str
    non_finite_steps: int = 0
    deterministic: bool = True
    environment_changed_at: tuple[int, ...] = ()
    evaluation_step: int | None = None
    task: str = ""
    training_metrics: dict[str, float | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary by name, as `--json` prints it."""
        return asdict(self)


def samples_per_second(segment: Segment, first: StepRecord, last: StepRecord) -> float:
    """Return the rate of a segment, given its first and last result."""
    elapsed = last.ended_at - (first.ended_at - first.seconds)
    steps = last.step - first.step + 1
    epochs, steps = divmod(steps, segment.steps_per_epoch)
    trained = epochs * segment.samples + steps * segment.batch_size
    return trained / elapsed if elapsed > 0 else 0.0


def summarise(
    run: str,
    segment: Segment,
    *,
    ends: tuple[StepRecord, StepRecord],
    evaluation: Evaluation | None,
    held_out: int = 0,
    seconds: float,
    weights_sha256: str,
    non_finite_steps: int,
    deterministic: bool,
    environment_changed_at: tuple[int, ...] = (),
    task: str = "",
) -> Summary:
    """Compose the summary of a segment; `ends` are its first and last result so far.

    `held_out` is the number of samples to score, if none were scored yet.
    """
    first, last = ends
    steps = last.step - first.step + 1
    return Summary(
        run=run,
        steps=steps,
        samples=min(segment.samples, steps * segment.batch_size),
        batch_size=segment.batch_size,
        epochs=-(-steps // segment.steps_per_epoch),
        kind=segment.source.kind,
        seed=segment.source.seed,
        loss_first=first.loss,
        loss_last=last.loss,
        validation_loss=evaluation.loss if evaluation else None,
        metrics=evaluation.metrics if evaluation else {},
        validation_samples=evaluation.samples if evaluation else held_out,
        seconds=seconds,
        samples_per_second=samples_per_second(segment, first, last),
        weights_sha256=weights_sha256,
        non_finite_steps=non_finite_steps,
        deterministic=deterministic,
        environment_changed_at=environment_changed_at,
        evaluation_step=evaluation.step if evaluation else None,
        task=task,
        training_metrics=last.metrics,
    )
