"""The check of a task before its samples are uploaded: what would fail, or differ, later.

One executor at a time is on the device, so that it needs no more memory than the run will.
"""

import math
import platform
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from omega21.executors.base import Arrays, Batch, Computation, StepOutcome, batch_size
from omega21.language import _
from omega21.models.task import Task
from omega21.protocol.errors import TaskFailed
from omega21.protocol.schema import TensorSpec
from omega21.protocol.tasks.probe import ProbeFound

_NEAR: Final = 1e-5
"""Relative difference up to which outputs in another batch are the same but for rounding."""


def probe(
    batch: Batch, *, make_task: Callable[[], Task], make_executor: Callable[[], Computation]
) -> ProbeFound:
    """Build the task several times and train `batch` twice. Raises TaskFailed.

    Checked: builds are alike, the loss is finite, metrics are means, the state holds all that a
    step depends on, evaluation changes nothing. Found out: whether a step repeats to the bit, and
    whether one sample alone can be trained.
    """
    task = _build_twice(make_task)
    executor = make_executor()
    outcome = _step(executor, batch, 1)
    _check_finite(outcome, task)
    state = executor.state()
    predictions = _check_evaluation(executor, batch, state=state, task=task)
    _step(executor, batch, 2)
    second_state = executor.state()
    del executor
    differs = _repeat(make_executor(), batch, outcome=outcome, state=state)
    if differs is None:
        differs = _check_restore(make_executor, batch, state=state, expected=second_state)
    counts = [(p.numel(), p.requires_grad) for p in task.module.parameters()]
    return ProbeFound(
        parameters=sum(count for count, _trained in counts),
        trained_parameters=sum(count for count, trained in counts if trained),
        loss=outcome.loss,
        metrics=outcome.metrics,
        predictions=predictions,
        differs=differs,
        alone=_failure_alone(make_executor(), batch),
        torch_version=str(torch.__version__),
        python_version=platform.python_version(),
    )


def _step(executor: Computation, batch: Batch, number: int) -> StepOutcome:
    return executor.step(batch, number, micro_batch_size=batch_size(batch))


def _build_twice(make_task: Callable[[], Task]) -> Task:
    """Return the task; another build has to have equal weights of its own."""
    first, second = make_task(), make_task()
    where = first.where("build")
    ours, theirs = first.module.state_dict(), second.module.state_dict()
    shared = {id(p) for p in first.module.parameters()} & {
        id(p) for p in second.module.parameters()
    }
    if shared:
        raise TaskFailed(
            _("{where}: two calls of build returned the same parameters").format(where=where),
            hint=_("make the module inside build, not once for the whole file"),
        )
    differing = difference(
        {name: value.numpy() for name, value in ours.items()},
        {name: value.numpy() for name, value in theirs.items()},
    )
    if differing is not None:
        raise TaskFailed(
            _("{where}: two calls of build gave other values to {name}").format(
                where=where, name=differing
            ),
            hint=_("draw them from torch, numpy.random or random, whose generators are seeded"),
        )
    return first


def _check_finite(outcome: StepOutcome, task: Task) -> None:
    where = task.where("loss")
    if not math.isfinite(outcome.loss):
        raise TaskFailed(
            _("{where}: the loss of the first samples is {loss}").format(
                where=where, loss=outcome.loss
            ),
            hint=_("look for a division by zero, a logarithm of zero, or data far from scale"),
        )
    if not (outcome.applied or outcome.skipped_by_scaler):
        raise TaskFailed(
            _("{where}: the gradient of the first samples is not finite").format(where=where),
            hint=_("look for the root or logarithm of zero in the model and its loss"),
        )


def _check_evaluation(
    executor: Computation, batch: Batch, *, state: Arrays, task: Task
) -> dict[str, TensorSpec]:
    """Check metrics and predictions; return the form of the predictions of one sample."""
    predictions = executor.predict(batch, micro_batch_size=batch_size(batch))
    _check_means(executor, batch, predictions=predictions, task=task)
    changed = difference(state, executor.state())
    if changed is not None:
        raise TaskFailed(
            _("{where}: evaluation changes {name}").format(where=task.where("build"), name=changed),
            hint=_("change buffers in training only: if self.training"),
        )
    return {
        name: TensorSpec.model_validate({"dtype": str(array.dtype), "shape": array.shape[1:]})
        for name, array in predictions.items()
    }


def _check_means(executor: Computation, batch: Batch, *, predictions: Arrays, task: Task) -> None:
    """Compare the metrics of all samples with the mean of those of each, where none mix."""
    samples = batch_size(batch)
    parts = [{name: array[i : i + 1] for name, array in batch.items()} for i in range(samples)]
    whole = executor.evaluate(batch, micro_batch_size=samples).metrics
    for name, value in whole.items():
        if not math.isfinite(value):
            raise _no_mean(task, name, _("it is {value}").format(value=value))
    alone = [executor.predict(part, micro_batch_size=1) for part in parts]
    if any(one.keys() != predictions.keys() for one in alone) or not all(
        _near(array, np.concatenate([one[name] for one in alone]))
        for name, array in predictions.items()
    ):
        return
    singles = [executor.evaluate(part, micro_batch_size=1).metrics for part in parts]
    for name, value in whole.items():
        each = [single.get(name, math.nan) for single in singles]
        if not math.isclose(value, sum(each) / samples, rel_tol=1e-2, abs_tol=1e-3):
            raise _no_mean(
                task,
                name,
                _("it is {value} for the first samples together, and {each} for each").format(
                    value=f"{value:.6g}", each=", ".join(f"{one:.6g}" for one in each)
                ),
            )


def _no_mean(task: Task, name: str, reason: str) -> TaskFailed:
    return TaskFailed(
        _("{where}: metric {name!r} is no mean over the batch: {reason}").format(
            where=task.where("metrics"), name=name, reason=reason
        ),
        hint=_("return a mean over the samples; results of many batches are averaged"),
    )


def _near(some: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    if some.shape != other.shape:
        return False
    if some.dtype.kind != "f":
        return bool(np.array_equal(some, other))
    return bool(np.allclose(some, other, rtol=_NEAR, atol=_NEAR))


def _repeat(
    executor: Computation, batch: Batch, *, outcome: StepOutcome, state: Arrays
) -> str | None:
    """Compute the first step again; return the first value that differs."""
    again = _step(executor, batch, 1)
    if again.loss != outcome.loss:
        return "loss"
    return difference(state, executor.state())


def _check_restore(
    make_executor: Callable[[], Computation], batch: Batch, *, state: Arrays, expected: Arrays
) -> str | None:
    """Check that a restored executor computes the next step to the same bits.

    Return the first value that differs where it does not even repeat between two restored ones.
    """
    restored = _second_state(make_executor(), batch, state)
    differing = difference(expected, restored)
    if differing is None:
        return None
    unsteady = difference(restored, _second_state(make_executor(), batch, state))
    if unsteady is not None:
        return unsteady
    raise TaskFailed(
        _("after a restore step 2 gives another {name}: something is not in the state").format(
            name=differing
        ),
        hint=_("keep what changes in training in buffers: self.register_buffer(…)"),
    )


def _second_state(executor: Computation, batch: Batch, state: Arrays) -> Arrays:
    """Restore the state after the first step, and return the one after the second."""
    executor.restore(state)
    _step(executor, batch, 2)
    return executor.state()


def _failure_alone(executor: Computation, batch: Batch) -> str | None:
    one = {name: array[:1] for name, array in batch.items()}
    try:
        _step(executor, one, 1)
    except TaskFailed as error:
        return error.message
    return None


def difference(
    some: Mapping[str, NDArray[np.generic]], other: Mapping[str, NDArray[np.generic]]
) -> str | None:
    """Return the first name, in order, whose arrays do not have equal bits; None if all have."""
    for name in sorted(some.keys() | other.keys()):
        ours, theirs = some.get(name), other.get(name)
        if ours is None or theirs is None or ours.dtype != theirs.dtype:
            return name
        if ours.shape != theirs.shape or ours.tobytes() != theirs.tobytes():
            return name
    return None
