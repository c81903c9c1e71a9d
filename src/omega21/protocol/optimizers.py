"""Configuration of a run's optimizer: fixed when the run is created."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from omega21.language import _
from omega21.protocol.messages import Document

Share = Annotated[float, Field(ge=0.0, lt=1.0)]

OptimizerName = Literal["adamw", "adam", "nadam", "sgd", "rmsprop", "adagrad"]
"""Optimizers of `torch.optim`, by name."""


class OptimizerConfig(Document):
    """An optimizer of `torch.optim` and its learning rate, a function of the step alone.

    `adamw` is that of Loshchilov and Hutter, 2019. A field that an optimizer does not have
    changes nothing.
    """

    name: OptimizerName = "adamw"
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    """Learning rate after the warm-up."""
    beta1: Share = 0.9
    """Decay of the mean of gradients: `adamw`, `adam`, `nadam`."""
    beta2: Share = 0.999
    """Decay of the mean of squared gradients: as `beta1`, and `rmsprop`."""
    momentum: Share = 0.0
    """Momentum: `sgd`, `rmsprop`."""
    nesterov: bool = False
    """Whether the momentum is that of Nesterov: `sgd`."""
    epsilon: Annotated[float, Field(gt=0.0, le=1e-2)] = 1e-8
    """Added to the root of the mean of squared gradients."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """Decay of the weights where the task's parameters decay: decoupled from the gradient in
    `adamw`, added to it in the others."""
    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 3
    """Steps over which the rate rises linearly to its full value."""
    max_grad_norm: Annotated[float, Field(gt=0.0, le=1e6)] = 1.0
    """Norm to which a step's gradient is clipped."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError(_("nesterov needs a momentum above 0"))
        return self
