"""The state of any torch optimizer as named arrays, and back, without a bit changed.

`optimizer.{key}.{parameter}` is a tensor of the optimizer's state of a parameter.
`optimizer_number.{key}.{parameter}` is a Python number there, an empty array for None.
`optimizer_group.{index}.{key}` is a number of a group of parameters, which optimizers of the user's
own may change; those by name have theirs from the run's configuration and the step.

`Optimizer.load_state_dict` does not serve: it casts to the parameter's type.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omega21.executors.base import Arrays
from omega21.language import _
from omega21.protocol.errors import TaskFailed

_TENSOR: Final = "optimizer"
_NUMBER: Final = "optimizer_number"
_GROUP: Final = "optimizer_group"

Names = Mapping[str, nn.Parameter]
"""The trained parameters by name."""


def to_cpu(tensor: Tensor) -> NDArray[np.generic]:
    """Copy a tensor to an array of its own."""
    array: NDArray[np.generic] = tensor.detach().to("cpu", copy=True).contiguous().numpy()
    return array


def optimizer_arrays(optimizer: torch.optim.Optimizer, names: Names, *, groups: bool) -> Arrays:
    """Copy the optimizer's state to the CPU; `groups` says whether groups' numbers are state.

    Raises TaskFailed for what is neither a tensor nor a number.
    """
    arrays: Arrays = {}
    for name, parameter in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                arrays[f"{_TENSOR}.{_checked(key)}.{name}"] = to_cpu(value)
            else:
                arrays[f"{_NUMBER}.{_checked(key)}.{name}"] = _number(key, value)
    if unknown := optimizer.state.keys() - set(names.values()):
        raise _unfit(f"state[{next(iter(unknown))!r}]", optimizer)
    if groups:
        for index, key, value in _group_numbers(optimizer):
            arrays[f"{_GROUP}.{index}.{key}"] = (
                to_cpu(value) if isinstance(value, Tensor) else np.asarray(value)
            )
    return arrays


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Names,
    *,
    arrays: Mapping[str, NDArray[np.generic]],
    groups: bool,
) -> None:
    """Give an optimizer the state of `optimizer_arrays`.

    Raises KeyError where something that it has is missing, RuntimeError for other shapes.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for full_name, array in arrays.items():
        kind, _dot, rest = full_name.partition(".")
        key, _dot, name = rest.partition(".")
        if kind == _TENSOR:
            found[name][key] = _place(array, key, parameter=names[name], optimizer=optimizer)
        elif kind == _NUMBER:
            found[name][key] = array.item() if array.size else None
    for name, parameter in names.items():
        state = optimizer.state[parameter] if found[name] else optimizer.state.get(parameter, {})
        for key, value in list(state.items()):
            restored = found[name].pop(key)
            if isinstance(value, Tensor):
                with torch.no_grad():
                    value.copy_(restored)
            else:
                state[key] = restored
        state.update(found[name])
    if groups:
        _restore_groups(optimizer, arrays)


def _restore_groups(
    optimizer: torch.optim.Optimizer, arrays: Mapping[str, NDArray[np.generic]]
) -> None:
    for index, key, value in _group_numbers(optimizer):
        array = arrays[f"{_GROUP}.{index}.{key}"]
        if isinstance(value, Tensor):
            with torch.no_grad():
                value.copy_(torch.from_numpy(np.array(array)))
        else:
            optimizer.param_groups[index][key] = array.item()


def _group_numbers(optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, str, Any]]:
    for index, group in enumerate(optimizer.param_groups):
        for key, value in sorted(group.items()):
            if isinstance(value, bool | int | float | Tensor):
                yield index, _checked(key), value


def _place(
    array: NDArray[np.generic],
    key: str,
    *,
    parameter: nn.Parameter,
    optimizer: torch.optim.Optimizer,
) -> Tensor:
    """Copy a tensor to where torch keeps it: beside its parameter, but for some step counts."""
    tensor = torch.from_numpy(np.array(array))
    if key == "step":
        group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        if not (group.get("fused") or group.get("capturable")):
            return tensor
    return tensor.to(parameter.device)


def _checked(key: object) -> str:
    if not isinstance(key, str) or "." in key:
        raise TaskFailed(
            _("the optimizer has the key {key!r} in its state; keys are names without dots").format(
                key=key
            )
        )
    return key


def _number(key: str, value: object) -> NDArray[np.generic]:
    if value is None:
        return np.zeros(0)
    if isinstance(value, bool | int | float):
        return np.asarray(value)
    raise _unfit(key, value)


def _unfit(key: str, value: object) -> TaskFailed:
    return TaskFailed(
        _("the optimizer keeps {key} as a {type}, which cannot be stored").format(
            key=key, type=type(value).__name__
        ),
        hint=_("use an optimizer whose state of each parameter is tensors and numbers"),
    )
