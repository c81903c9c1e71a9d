"""What a model must offer to be trained: all that the engine knows of one."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from torch import Tensor, nn

OutputsT = TypeVar("OutputsT")


class Trainable(nn.Module, ABC, Generic[OutputsT]):
    """A module that can be trained, questioned and saved; `CortezaCognitivaV4` is one.

    `OutputsT` is whatever `forward` returns; the engine only hands it on to the other methods.
    What must hold, since steps are repeated, split and compared to the bit:

    - Samples do not mix: the outputs for a sample are the same in any batch, up to rounding. A
      batch that does not fit in memory is then computed in parts, with the same gradient.
    - Nothing is kept between calls: parameters change by the optimizer alone, buffers never.
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
        """Score each sample, float32 [n], detached: the higher, the likelier its label is 1."""

    @abstractmethod
    def predictions(self, outputs: OutputsT) -> Mapping[str, Tensor]:
        """Name what is told of each sample, [n, …], detached."""

    @abstractmethod
    def summary(self, outputs: OutputsT) -> Mapping[str, Tensor]:
        """Describe the batch by named means over its samples, float32 of any shape, detached.

        The means of a batch's parts, weighted by their sizes, are those of the whole.
        """

    def multiplied_parameters(self) -> Iterable[nn.Parameter]:
        """Name the parameters that learn at the raised rate (`OptimizerConfig`); none here."""
        return ()
