"""Losses by name, for source that has no function `loss`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from omega21.language import _
from omega21.models.task import Batch
from omega21.protocol.errors import TaskFailed
from omega21.protocol.schema import Schema, TensorSpec

_Compute = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class NamedLoss:
    """A mean loss of outputs and target, with what else it tells.

    `is_right` compares outputs with targets, value by value: its mean is the metric `accuracy`.
    `score` gives the score of target 1 of each sample; None where the outputs have more classes.
    `aligned` losses want outputs of the target's shape.
    """

    name: str
    compute: _Compute
    is_right: _Compute | None = None
    score: Callable[[Tensor], Tensor | None] | None = None
    aligned: bool = True
    of_input: bool = False


def _classes_second(outputs: Tensor, target: Tensor) -> Tensor:
    """Move the classes to dimension 1, where torch wants them; [n, T, C] is common too."""
    if outputs.dim() > 2 and outputs.shape[2:] != target.shape[1:]:
        return outputs.movedim(-1, 1)
    return outputs


def _cross_entropy(outputs: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(_classes_second(outputs, target), target.long())


def _nll(outputs: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(_classes_second(outputs, target), target.long())


def _right_class(outputs: Tensor, target: Tensor) -> Tensor:
    return _classes_second(outputs, target).argmax(1) == target


def _second_of_two(outputs: Tensor) -> Tensor | None:
    if outputs.dim() != 2 or outputs.shape[1] != 2:
        return None
    return outputs.softmax(1)[:, 1]


def _one_each(outputs: Tensor) -> Tensor | None:
    flat = outputs.flatten(1).squeeze(1) if outputs.dim() > 1 else outputs
    return flat if flat.dim() == 1 else None


_LOSSES: Final = (
    NamedLoss(
        name="cross_entropy", compute=_cross_entropy, is_right=_right_class,
        score=_second_of_two, aligned=False,
    ),
    NamedLoss(
        name="nll", compute=_nll, is_right=_right_class,
        score=_second_of_two, aligned=False,
    ),
    NamedLoss(
        name="bce", compute=F.binary_cross_entropy,
        is_right=lambda outputs, target: (outputs > 0.5) == (target > 0.5), score=_one_each,
    ),
    NamedLoss(
        name="bce_with_logits", compute=F.binary_cross_entropy_with_logits,
        is_right=lambda outputs, target: (outputs > 0) == (target > 0.5), score=_one_each,
    ),
    NamedLoss(name="mse", compute=F.mse_loss),
    NamedLoss(name="mae", compute=F.l1_loss),
    NamedLoss(name="huber", compute=F.huber_loss),
    NamedLoss(name="reconstruction", compute=F.mse_loss, of_input=True),
)  # fmt: skip
LOSSES: Final[Mapping[str, NamedLoss]] = {loss.name: loss for loss in _LOSSES}


def default_loss(schema: Schema) -> str | None:
    """Return the loss that the target's type suggests; None where nothing does.

    Whole numbers are classes, truth values are learnt as logits, other numbers by their squared
    error. Whether a float of 0 or 1 is a class is not guessed.
    """
    if not schema.targets:
        return "reconstruction" if len(schema.inputs) == 1 else None
    if len(schema.targets) != 1:
        return None
    (spec,) = schema.targets.values()
    if spec.dtype == "bool":
        return "bce_with_logits"
    return "mse" if spec.dtype.startswith("float") else "cross_entropy"


class LossByName:
    """A named loss of a schema's one target, or of its one input."""

    def __init__(self, name: str, schema: Schema) -> None:
        if name not in LOSSES:
            raise TaskFailed(
                _("there is no loss {name!r}").format(name=name),
                hint=_("use one of {names}, or define loss(outputs, batch)").format(
                    names=", ".join(LOSSES)
                ),
            )
        self._loss = LOSSES[name]
        compared: Mapping[str, TensorSpec] = (
            schema.inputs if self._loss.of_input else schema.targets
        )
        if len(compared) != 1:
            raise TaskFailed(
                _("loss {name} compares with one tensor, and the samples have {count}").format(
                    name=name, count=f"{len(compared)}: {', '.join(compared)}"
                ),
                hint=_("define loss(outputs, batch)"),
            )
        (self._target,) = compared

    def __call__(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the mean loss. Raises TaskFailed for outputs of another form."""
        values, target = self._pair(outputs, batch)
        try:
            return self._loss.compute(values, target)
        except (RuntimeError, ValueError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
                raise
            raise self._misfit(values, target, str(error).partition("\n")[0]) from error

    def metrics(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Return `accuracy` for a loss of classes."""
        if self._loss.is_right is None:
            return {}
        values, target = self._pair(outputs, batch)
        return {"accuracy": self._loss.is_right(values, target).float().mean()}

    def scores(self, outputs: Any) -> Tensor | None:
        """Return the score of target 1 for each sample, where there are two classes."""
        values = single_tensor(outputs)
        return None if values is None or self._loss.score is None else self._loss.score(values)

    def _pair(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        values, target = single_tensor(outputs), batch[self._target]
        if values is None:
            raise TaskFailed(
                _("loss {name} needs one tensor, and forward returned {found}").format(
                    name=self._loss.name, found=describe_outputs(outputs)
                ),
                hint=_("define loss(outputs, batch)"),
            )
        values = values.float() if values.dtype.itemsize < 4 else values
        if not self._loss.aligned:
            return values, target
        if values.shape != target.shape:  # torch would broadcast [n, 1] and [n] to [n, n]
            if _without_last_one(values) != _without_last_one(target):
                raise self._misfit(values, target, _("their shapes differ"))
            values = values.reshape(target.shape)
        return values, target.to(values.dtype)

    def _misfit(self, values: Tensor, target: Tensor, reason: str) -> TaskFailed:
        return TaskFailed(
            _("loss {name}: outputs {outputs}, {target} {wanted}: {reason}").format(
                name=self._loss.name,
                outputs=describe_outputs(values),
                target=self._target,
                wanted=describe_outputs(target),
                reason=reason,
            ),
            hint=_("choose another loss with --loss, or define loss(outputs, batch)"),
        )


def _without_last_one(tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    return shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape


def single_tensor(outputs: Any) -> Tensor | None:
    """Return the outputs if they are one tensor, or a mapping with one; else None."""
    if isinstance(outputs, Mapping) and len(outputs) == 1:
        (outputs,) = outputs.values()
    return outputs if isinstance(outputs, Tensor) else None


def describe_outputs(outputs: Any) -> str:
    """Return `float32 [2, 10]`, `{a: float32 [2]}` or the name of another type."""
    if isinstance(outputs, Tensor):
        return f"{str(outputs.dtype).removeprefix('torch.')} {list(outputs.shape)}"
    if isinstance(outputs, Mapping):
        return "{" + ", ".join(f"{n}: {describe_outputs(v)}" for n, v in outputs.items()) + "}"
    return type(outputs).__name__
