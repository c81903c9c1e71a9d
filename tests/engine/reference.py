"""The plain sequence: a bare training loop in torch, which every run has to equal to the bit.

Nothing of the engine is used here but the pure functions that say which samples a step trains on
and what seeds it, and the digests that name results.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from omega21.data.order import epoch_order, step_seed
from omega21.models.corteza.config import ModelConfig
from omega21.models.corteza.network import build_model
from omega21.protocol.digests import CHAIN_START, chain_result, tensors_sha256
from omega21.protocol.runs import RunConfig
from omega21.protocol.steps import float32_as_json
from tests.engine.engines import Outcome, Row, Samples

RAISED = ModelConfig().statistics_lr_multiplier


class Environment(NamedTuple):
    """A segment: its samples in the order given, and its numbers."""

    samples: Samples
    batch_size: int
    epochs: int = 1
    order_seed: int = 0


def train_plainly(config: RunConfig, plan: Sequence[Environment]) -> Outcome:
    """Train a plan from the start, step by step, whole batches on one CPU thread."""
    sizes = ModelConfig.model_validate(config.task.config)
    model = build_model(sizes, seed=config.seed).train()
    optimizer = _adamw(model, config)
    rows: list[Row] = []
    digest = CHAIN_START
    for environment in plan:
        for batch in _batches(environment):
            row = _step(model, optimizer, config, batch, (len(rows) + 1, digest))
            rows.append(row)
            digest = row.digest
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return Outcome(rows, tensors_sha256(weights))


def _batches(environment: Environment) -> list[Samples]:
    x, y = environment.samples
    batches = []
    for epoch in range(environment.epochs):
        order = epoch_order(environment.order_seed, epoch=epoch, samples=len(y))
        for start in range(0, len(y), environment.batch_size):
            rows = order[start : start + environment.batch_size]
            batches.append(Samples(x[rows], y[rows]))
    return batches


def _adamw(model: nn.Module, config: RunConfig) -> torch.optim.AdamW:
    rates = config.optimizer
    raised = model.get_parameter("token_statistics.weight_R")
    others = [parameter for parameter in model.parameters() if parameter is not raised]
    return torch.optim.AdamW(
        [
            {"params": [p for p in others if p.dim() >= 2], "weight_decay": rates.weight_decay},
            {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0},
            {"params": [raised], "weight_decay": 0.0},
        ],
        lr=rates.learning_rate,
        betas=(rates.beta1, rates.beta2),
        eps=rates.epsilon,
        fused=True,
    )


def _step(
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    config: RunConfig,
    batch: Samples,
    at: tuple[int, str],
) -> Row:
    number, digest = at
    rates = config.optimizer
    torch.manual_seed(step_seed(config.seed, number))
    optimizer.zero_grad()
    outputs = model(torch.from_numpy(batch.x))
    loss = nn.functional.binary_cross_entropy_with_logits(
        outputs.anomaly_logit_B, torch.from_numpy(batch.y)
    )
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), rates.max_grad_norm)
    counts = bool(torch.isfinite(loss) and torch.isfinite(norm))
    if counts:
        warm = min(1.0, number / rates.warmup_steps)
        for group, raise_by in zip(optimizer.param_groups, (1.0, 1.0, RAISED), strict=True):
            group["lr"] = rates.learning_rate * raise_by * warm
        optimizer.step()
    value = float32_as_json(float(loss.detach())) if counts else None
    logits = outputs.anomaly_logit_B.detach()
    metrics = {
        "anomaly_prob": logits.sigmoid().mean(),
        "anomalies": (logits > 0).float().mean(),
        "capa2_activations": outputs.capa2,
        "capa3_activations": outputs.capa3,
        "capa4_activations": outputs.capa4,
    }
    vectors = {"dendrites": outputs.dendrites_BD, "coherence": outputs.coherence_BC}
    return Row(
        step=number,
        loss=value,
        metrics=_written(metrics) if counts else {},
        samples=len(batch.y),
        digest=chain_result(digest, number, value),
        non_finite=not counts,
        micro_batch_size=None,
        vectors={name: _means(each) for name, each in vectors.items()} if counts else {},
    )


def _written(metrics: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float32_as_json(float(value)) for name, value in metrics.items()}


def _means(values: torch.Tensor) -> list[float]:
    means = values.detach().mean(0).numpy()
    return [float32_as_json(float(np.float32(mean))) for mean in means]
