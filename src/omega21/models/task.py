"""The task protocol: all that the engine knows of what it trains.

Requirements, since steps are repeated, split and compared bit by bit:

- A step is a function of the state (parameters and buffers of the module, the optimizer's state),
  the batch and the step's number. Whatever else changes between two calls is lost in a restore.
- Randomness comes from torch, numpy and `random` alone, whose generators are seeded before each
  step, and only in training mode.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

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


OutputsT = TypeVar("OutputsT")


class Trainable(nn.Module, ABC, Generic[OutputsT]):
    """A module that can be trained, evaluated and saved; `CortezaCognitivaV4` is one.

    `OutputsT` is the type that `forward` returns; the engine only passes it to the other methods.
    Requirements, since steps are repeated, split and compared bit by bit:

    - Samples are independent: the outputs for a sample are the same in any batch, up to rounding.
      A batch that does not fit in memory is computed in micro-batches, with the same gradient.
    - No state between calls: only the optimizer changes parameters, and buffers never change.
    - Randomness comes from torch's default generator of the device, and only in training mode:
      the engine seeds it before each step.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> OutputsT:
        """Compute the outputs for the samples x, float32 [n, features]."""

    @abstractmethod
    def loss(self, outputs: OutputsT, y: Tensor) -> Tensor:
        """Mean loss over the batch, a float32 scalar with gradient; y is float32 [n]."""

    @abstractmethod
    def scores(self, outputs: OutputsT) -> Tensor:
        """Score each sample, float32 [n], detached: a higher score means label 1 is more likely."""

    @abstractmethod
    def predictions(self, outputs: OutputsT) -> Mapping[str, Tensor]:
        """Return the named predictions for each sample, [n, …], detached."""

    @abstractmethod
    def summary(self, outputs: OutputsT) -> Mapping[str, Tensor]:
        """Return named means over the batch's samples, float32 of any shape, detached.

        The means of micro-batches, weighted by their sizes, are those of the batch.
        """

    def multiplied_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters with the multiplied learning rate (`OptimizerConfig`).

        None by default.
        """
        return ()
