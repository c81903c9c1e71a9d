"""The interface of a trainable model: all that the engine knows of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from torch import Tensor, nn

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
