"""What `build` returned, and how its `forward` is called."""

import inspect
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from omega21.language import _
from omega21.models.code.source import Source
from omega21.models.task import Batch
from omega21.protocol.errors import TaskFailed
from omega21.protocol.schema import Schema, TensorType

STORED_TYPES: Final = frozenset(getattr(torch, name) for name in get_args(TensorType))
"""Types that checkpoints and predictions may have."""


def check_module(source: Source, module: object) -> nn.Module:
    """Return what `build` returned, if it can be trained and stored. Raises TaskFailed."""
    place = source.where(source.build)
    if not isinstance(module, nn.Module):
        raise TaskFailed(
            _("{where}: build returned a {type}, not an nn.Module").format(
                where=place, type=type(module).__name__
            )
        )
    for name, value in module.state_dict().items():
        if reason := _unfit(value):
            raise TaskFailed(
                _("{where}: {name!r} in the model's state {reason}").format(
                    where=place, name=name, reason=reason
                )
            )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise TaskFailed(_("{where}: the model has no parameter to train").format(where=place))
    return module


def _unfit(value: object) -> str | None:
    if not isinstance(value, Tensor):
        return _("is a {type}, not a tensor").format(type=type(value).__name__)
    if is_lazy(value):
        return _("has no shape yet: call lazy modules once in build")
    if value.device.type != "cpu":
        return _("is on {device}: build on the CPU, the server moves it to its device").format(
            device=value.device
        )
    if value.dtype not in STORED_TYPES or value.layout is not torch.strided:
        return _("is {type}, which cannot be stored").format(type=value.dtype)
    return None


class Forward:
    """Calls a module with the schema's inputs: by the names of forward's parameters.

    A module that is not of the user's source, such as `nn.Sequential`, gets the one input
    whatever its parameter is called.
    """

    def __init__(self, source: Source, module: nn.Module, schema: Schema) -> None:
        self._module = module
        self._inputs = tuple(schema.inputs)
        self._by_position = False
        try:
            signature = inspect.signature(module.forward)
        except (TypeError, ValueError):  # a scripted module has none
            self._by_position = True
            return
        required = [p for p in signature.parameters.values() if p.default is p.empty]
        if not source.owns(module.forward) and len(self._inputs) == 1 and len(required) == 1:
            self._by_position = True
        else:
            self._check(source, signature)

    def _check(self, source: Source, signature: inspect.Signature) -> None:
        parameters = signature.parameters.values()
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = {
            p.name: p.default is p.empty
            for p in parameters
            if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}
        }
        unknown = [name for name, needed in named.items() if needed and name not in self._inputs]
        unused = [name for name in self._inputs if name not in named and not open_ended]
        if not unknown and not unused:
            return
        reason = (
            _("forward has the parameter {name!r}").format(name=unknown[0])
            if unknown
            else _("forward does not take the input {name!r}").format(name=unused[0])
        )
        raise TaskFailed(
            _("{where}: {reason}; the samples' inputs are {inputs}").format(
                where=source.where(self._module.forward),
                reason=reason,
                inputs=", ".join(self._inputs),
            ),
            hint=_("name forward's parameters as the inputs in the data"),
        )

    def __call__(self, batch: Batch) -> Any:
        """Return what the module returns.

        It gets copies: it may change them in place, and the batch may be memory that others read.
        """
        inputs = {name: batch[name].clone() for name in self._inputs}
        return self._module(*inputs.values()) if self._by_position else self._module(**inputs)
