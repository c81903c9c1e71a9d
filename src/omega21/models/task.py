"""The task protocol: all that the engine knows of what it trains.

Requirements, since steps are repeated, split and compared bit by bit:

- A step is a function of the state (parameters and buffers of the module, the optimizer's state),
  the batch and the step's number. Whatever else changes between two calls is lost in a restore.
- Randomness comes from torch, numpy and `random` alone, whose generators are seeded before each
  step, and only in training mode.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
"""The tensors of a batch by the schema's names, each [n, …], on the device."""


class Task(ABC):
    """A model with its loss, metrics and predictions.

    `outputs` is whatever `forward` returns; the engine only passes it on.
    """

    module: nn.Module
    """Its parameters and buffers are the weights: `state_dict` is saved, restored and digested."""

    samples_mix: bool = True
    """Whether a sample's outputs may depend on the others of its batch, as with batch norm.

    Where they do not, a batch that does not fit in memory is computed in micro-batches unasked.
    """

    @abstractmethod
    def forward(self, batch: Batch) -> Any:
        """Compute the outputs of the module from the batch's inputs."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss over the batch: a scalar with gradient."""

    def metrics(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Return named scalars, detached: means over the batch, besides the loss. None by default.

        The values of micro-batches, weighted by their sizes, are those of the batch.
        """
        return {}

    def vectors(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Return named vectors [k], detached: means over the batch. None by default."""
        return {}

    def predictions(self, outputs: Any) -> Mapping[str, Tensor]:
        """Return the named predictions for each sample, [n, …], detached."""
        raise NotImplementedError

    def scores(self, outputs: Any) -> Tensor | None:  # noqa: ARG002
        """Return a score [n] for each sample, higher where target 1 is more likely; or None."""
        return None

    def augment(self, batch: Batch) -> Batch:
        """Return the batch to train on; in training only. The batch itself by default."""
        return batch

    def failures(self) -> AbstractContextManager[None]:
        """Return a context that names where the task's own source failed. None by default."""
        return nullcontext()

    def where(self, function: str) -> str:  # noqa: ARG002
        """Return where the task's source has a function, as `net.py:12`."""
        return type(self).__name__

    def parameter_groups(self) -> Sequence["ParameterGroup"]:
        """Return the trained parameters in groups; by default one group with weight decay."""
        trained = [p for p in self.module.parameters() if p.requires_grad]
        return [ParameterGroup(trained)]

    def optimizer(self) -> torch.optim.Optimizer | None:
        """Return the task's own optimizer; None for the one of the run's OptimizerConfig."""
        return None


class ParameterGroup:
    """Parameters that share a multiplier of the learning rate, and whether they decay."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], *, lr_multiplier: float = 1.0, decays: bool = True
    ) -> None:
        self.parameters = parameters
        self.lr_multiplier = lr_multiplier
        self.decays = decays
