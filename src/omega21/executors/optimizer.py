"""The optimizer of a run and its learning rate, a function of the step's number only."""

from typing import Any

import torch

from omega21.models.task import Trainable
from omega21.protocol.models import OptimizerConfig

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps"})


def build_optimizer(model: Trainable[Any], config: OptimizerConfig) -> torch.optim.AdamW:
    """Build AdamW over three groups: matrices (with decay), vectors, and multiplied parameters.

    Each group's `lr` is its full learning rate; `set_learning_rate` scales it for a step. The
    fused update is one pass over memory: 7 ms against 27 for 12 million parameters on two cores.
    """
    raised = list(model.multiplied_parameters())
    raised_ids = {id(parameter) for parameter in raised}
    decayed: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        if id(parameter) not in raised_ids:
            (decayed if parameter.dim() >= 2 else plain).append(parameter)
    rate = config.learning_rate
    groups = [
        _group(decayed, rate=rate, decay=config.weight_decay),
        _group(plain, rate=rate),
        _group(raised, rate=rate * config.lr_multiplier),
    ]
    fused = {parameter.device.type for parameter in model.parameters()} <= FUSED_DEVICES
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=fused,
    )


def _group(
    parameters: list[torch.nn.Parameter], *, rate: float, decay: float = 0.0
) -> dict[str, Any]:
    return {"params": parameters, "lr": rate, "full_lr": rate, "weight_decay": decay}


def learning_rate_scale(config: OptimizerConfig, step: int) -> float:
    """Return the share of the full learning rate at a step; the run's first step is 1.

    It rises linearly over the warm-up and stays at 1. A run's plan may always grow, so the rate
    cannot depend on its end.
    """
    return min(1.0, step / max(1, config.warmup_steps))


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int) -> None:
    """Set the learning rate of every group for a step."""
    scale = learning_rate_scale(config, step)
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * scale
