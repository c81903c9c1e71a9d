"""Configuration of a run's optimizer: fixed when the run is created."""

from typing import Annotated, Literal

from pydantic import Field

from omega21.protocol.messages import Document

Share = Annotated[float, Field(ge=0.0, lt=1.0)]

OptimizerName = Literal["adamw"]


class OptimizerConfig(Document):
    """An optimizer and its learning rate, a function of the step alone.

    `adamw` is that of Loshchilov and Hutter, 2019.
    """

    name: OptimizerName = "adamw"
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    """Learning rate after the warm-up."""
    beta1: Share = 0.9
    """Decay of the mean of gradients."""
    beta2: Share = 0.999
    """Decay of the mean of squared gradients."""
    epsilon: Annotated[float, Field(gt=0.0, le=1e-2)] = 1e-8
    """Added to the root of the mean of squared gradients."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """Decay of the weights, decoupled from the gradient, where the task's parameters decay."""
    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 3
    """Steps over which the rate rises linearly to its full value."""
    max_grad_norm: Annotated[float, Field(gt=0.0, le=1e6)] = 1.0
    """Norm to which a step's gradient is clipped."""
