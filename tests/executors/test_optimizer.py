"""The optimizer: every parameter once, in its group, at a rate that follows from the step."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.bare_loop import BareLoop, batches
from omega21.data.order import step_seed
from omega21.data.sources.generators import generate
from omega21.executors.optimizer import (
    build_optimizer,
    learning_rate_scale,
    set_learning_rate,
)
from omega21.models.corteza.config import TINY
from omega21.models.corteza.task import CortezaTask
from omega21.protocol.optimizers import OptimizerConfig


def test_every_parameter_is_in_one_group() -> None:
    task = CortezaTask(TINY, seed=0)
    model = task.module
    groups = build_optimizer(task.parameter_groups(), OptimizerConfig()).param_groups
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    matrices, vectors, raised = groups
    assert all(parameter.dim() >= 2 for parameter in matrices["params"])
    assert all(parameter.dim() < 2 for parameter in vectors["params"])
    assert raised["params"] == [model.token_statistics.weight_R]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0, 0.0]
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 1e-3, 3e-2])


@given(warmup=st.integers(0, 50), step=st.integers(1, 10**9))
def test_the_rate_rises_and_stays(warmup: int, step: int) -> None:
    config = OptimizerConfig(warmup_steps=warmup)
    scale = learning_rate_scale(config, step)
    assert scale == (step / warmup if step < warmup else 1)
    assert 0 < scale <= learning_rate_scale(config, step + 1) <= 1


def test_setting_the_rate_of_a_step_needs_no_other_step() -> None:
    config = OptimizerConfig()
    optimizer = build_optimizer(CortezaTask(TINY, seed=0).parameter_groups(), config)
    for step, scale in ((5, 1), (1, 1 / 3), (2, 2 / 3), (1, 1 / 3)):
        set_learning_rate(optimizer, config, step)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([1e-3 * scale, 1e-3 * scale, 3e-2 * scale])


def test_updates_are_those_of_plain_adamw() -> None:
    config = OptimizerConfig(warmup_steps=0, weight_decay=0.0)
    even = TINY.model_copy(update={"statistics_lr_multiplier": 1.0})
    ours, task = CortezaTask(even, seed=0), CortezaTask(even, seed=0)
    theirs = task.module
    reference = torch.optim.AdamW(
        theirs.parameters(), lr=1e-3, weight_decay=0.0, foreach=False, fused=False
    )
    samples = generate("simple", 0, range(24), anomaly_percent=50, features=1600)
    ready = list(batches(samples, batch_size=8))
    losses = BareLoop(ours, config, run_seed=3).train(ready)
    expected = []
    for step, batch in enumerate(ready, start=1):
        torch.manual_seed(step_seed(3, step))
        reference.zero_grad()
        loss = task.loss(theirs(batch.x), {"y": batch.y})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        reference.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-4)
    for name, parameter in ours.module.named_parameters():
        torch.testing.assert_close(parameter, theirs.get_parameter(name), rtol=1e-3, atol=1e-5)


def test_a_tiny_network_learns_and_repeats_itself() -> None:
    samples = generate("simple", 1, range(256), anomaly_percent=25, features=1600)
    ready = list(batches(samples, batch_size=32, epochs=3, order_seed=1))

    def train() -> list[float]:
        task = CortezaTask(TINY, seed=1)
        return BareLoop(task, OptimizerConfig(learning_rate=3e-3), run_seed=1).train(ready)

    losses = train()
    assert losses == train()
    assert losses[-1] < losses[0] / 5


@pytest.mark.parametrize(
    "field",
    [
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"beta2": 1.0},
        {"warmup_steps": -1},
        {"max_grad_norm": 0},
        {"momentum": 1.0},
        {"nesterov": True},
        {"name": "adamwest"},
        {"amsgrad": True},
    ],
    ids=str,
)
def test_rates_out_of_range_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(field))):
        OptimizerConfig.model_validate(field)
