"""The buffers of a module before a step, for a step that is not applied."""

import torch
from torch import Tensor, nn


def buffer_owners(module: nn.Module) -> list[nn.Module]:
    """Return the parts of a module that have buffers of their own."""
    return [part for part in module.modules() if part._buffers]


class Buffers:
    """Copies of the buffers of `owners`, which a forward pass in training may change.

    They are few and small as a rule: a copy for each step costs less than to find out which change.
    """

    def __init__(self, owners: list[nn.Module]) -> None:
        self._copies = [
            (owner, name, buffer.clone())
            for owner in owners
            for name, buffer in owner._buffers.items()
            if buffer is not None
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Give the module's buffers the values that they had."""
        for owner, name, copy in self._copies:
            buffer = owner._buffers[name]
            if isinstance(buffer, Tensor) and buffer.shape == copy.shape:
                buffer.copy_(copy)
            else:
                owner._buffers[name] = copy
