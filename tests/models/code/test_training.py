"""Models of the user's own, whatever they are made of: each step is a function of the state."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from omega21.executors.base import StepOutcome
from omega21.executors.probe import difference
from omega21.executors.torch import TorchExecutor
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema
from tests.models.code.sources import Arrays, Sources, make_batch, run_config, schema


@dataclass(frozen=True)
class Case:
    """A net of the folder, its samples, and what it gives."""

    net: str
    samples: Schema
    metrics: set[str]
    predictions: dict[str, tuple[int, ...]]
    loss: str | None = None
    config: dict[str, Any] | None = None
    vectors: tuple[str, ...] = ()
    has_scores: bool = False

    def run(self, sources: Sources, **fields: Any) -> RunConfig:
        task = sources.add_net(self.net, loss=self.loss, config=self.config or {})
        return run_config(task, self.samples, **fields)


WIDE = {"x": ("float32", (8,))}
CASES = {
    "batch-norm": Case(
        "batch_norm",
        schema({"x": ("float32", (1, 4, 4))}, {"y": ("int64", ())}),
        {"accuracy"},
        {"probability": (10,), "label": ()},
    ),
    "tokens": Case(
        "characters",
        schema({"tokens": ("int64", (5,))}, {"following": ("int64", (5,))}),
        {"accuracy", "constant"},
        {"logits": (5, 11), "hidden": (8,)},
        vectors=("hidden",),
    ),
    "two-inputs": Case(
        "two_inputs",
        schema(
            {"left": ("float32", (3,)), "right": ("float32", (2,))},
            {"a": ("float32", ()), "b": ("float32", ())},
        ),
        set(),
        {"a": (), "b": ()},
    ),
    "autoencoder": Case("autoencoder", schema({"x": ("uint8", (4, 3))}), set(), {"output": (4, 3)}),
    "checkpointing": Case(
        "checkpointing", schema(WIDE, {"y": ("float32", ())}), set(), {"output": (1,)}
    ),
    "bool-target": Case(
        "checkpointing",
        schema(WIDE, {"y": ("bool", ())}),
        {"accuracy"},
        {"output": (1,)},
        has_scores=True,
    ),
    "bytes-as-classes": Case(
        "checkpointing",
        schema(WIDE, {"y": ("uint8", ())}),
        {"accuracy"},
        {"output": (10,)},
        config={"outputs": 10},
    ),
    "huber": Case(
        "checkpointing",
        schema(WIDE, {"y": ("float64", (2,))}),
        set(),
        {"output": (2,)},
        loss="huber",
        config={"outputs": 2},
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def train(
    executor: TorchExecutor, batches: list[Arrays], *, first: int = 1, size: int | None = None
) -> list[StepOutcome]:
    return [
        executor.step(batch, number, micro_batch_size=size or 99)
        for number, batch in enumerate(batches, start=first)
    ]


def batches_of(samples: Schema, count: int) -> list[Arrays]:
    return [make_batch(samples, 6, seed=seed) for seed in range(count)]


def test_it_learns_and_says_what_it_has(case: Case, sources: Sources) -> None:
    executor = sources.device().make_executor(case.run(sources))
    batch = make_batch(case.samples, 6)
    outcomes = train(executor, [batch] * 30)
    assert all(outcome.applied for outcome in outcomes)
    assert outcomes[-1].loss < outcomes[0].loss
    assert set(outcomes[0].metrics) == case.metrics
    assert tuple(outcomes[0].vectors) == case.vectors
    evaluation = executor.evaluate(batch, micro_batch_size=4)
    assert set(evaluation.metrics) == case.metrics
    assert (evaluation.scores is not None) == case.has_scores
    inputs = {name: batch[name] for name in case.samples.inputs}
    shapes = {n: p.shape for n, p in executor.predict(inputs, micro_batch_size=4).items()}
    assert shapes == {name: (6, *shape) for name, shape in case.predictions.items()}


@pytest.mark.parametrize("size", [None, 4], ids=["whole", "micro-batches"])
def test_a_restored_run_goes_on_to_the_same_bits(
    case: Case, sources: Sources, size: int | None
) -> None:
    config, device = case.run(sources), sources.device()
    batches = batches_of(case.samples, 6)
    straight = device.make_executor(config)
    losses = [outcome.loss for outcome in train(straight, batches, size=size)]
    first = device.make_executor(config)
    assert [o.loss for o in train(first, batches[:3], size=size)] == losses[:3]
    state = first.state()
    first.evaluate(batches[0], micro_batch_size=2)
    assert difference(state, first.state()) is None
    second = device.make_executor(config)
    second.restore(state)
    rest = train(second, batches[3:], first=4, size=size)
    assert [outcome.loss for outcome in rest] == losses[3:]
    assert difference(straight.state(), second.state()) is None


def test_the_probe_finds_nothing_wrong(case: Case, sources: Sources) -> None:
    found = sources.device().probe(case.run(sources), make_batch(case.samples, 2))
    assert found.differs is None
    assert set(found.metrics) == case.metrics
    assert {name: spec.shape for name, spec in found.predictions.items()} == case.predictions
    assert found.parameters >= found.trained_parameters > 0
    assert found.alone is None


OPTIMIZERS = {
    "adamw": OptimizerConfig(name="adamw"),
    "adam": OptimizerConfig(name="adam", weight_decay=0.1),
    "nadam": OptimizerConfig(name="nadam"),
    "sgd": OptimizerConfig(name="sgd"),
    "sgd-nesterov": OptimizerConfig(name="sgd", momentum=0.9, nesterov=True),
    "rmsprop": OptimizerConfig(name="rmsprop", momentum=0.5),
    "adagrad": OptimizerConfig(name="adagrad"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_learns_and_its_state_is_all_that_it_needs(
    name: str, sources: Sources
) -> None:
    case, rate = CASES["batch-norm"], {"learning_rate": 0.02}
    config = case.run(sources, optimizer=OPTIMIZERS[name].model_copy(update=rate))
    device, batch = sources.device(), make_batch(case.samples, 6)
    straight, stopped, restored = (device.make_executor(config) for _ in range(3))
    outcomes = train(straight, [batch] * 20)
    assert outcomes[-1].loss < outcomes[0].loss
    train(stopped, [batch] * 7)
    restored.restore(stopped.state())
    train(restored, [batch] * 13, first=8)
    assert difference(straight.state(), restored.state()) is None


OWN_OPTIMIZER = """
import torch
from torch import nn

class Warmed(torch.optim.Optimizer):
    '''Counts in numbers, keeps None until it has a moment, and changes its own rate.'''
    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1, "count": 0, "warm": False})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["count"] += 1
            group["warm"] = group["count"] > 2
            group["lr"] = group["lr"] * 0.9
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(step=0, moment=None, wide=torch.zeros(2, dtype=torch.float64))
                state["step"] += 1
                if group["warm"]:
                    moment = state["moment"]
                    state["moment"] = p.grad.clone() if moment is None else moment * 0.9 + p.grad
                state["wide"] += p.grad.abs().sum()
                direction = p.grad if state["moment"] is None else state["moment"]
                p -= group["lr"] * direction / (1 + 0.1 ** state["step"] + state["wide"].mean())

def build(schema):
    return nn.Linear(4, 1)

def optimizer(parameters):
    return Warmed(parameters)
"""


def test_an_optimizer_of_the_users_own_keeps_what_it_counts(sources: Sources) -> None:
    samples = schema({"x": ("float32", (4,))}, {"y": ("float32", ())})
    config = run_config(sources.add({"net.py": OWN_OPTIMIZER}), samples)
    device, batches = sources.device(), batches_of(samples, 8)
    straight = device.make_executor(config)
    train(straight, batches)
    state = straight.state()
    assert state["optimizer_group.0.lr"] == pytest.approx(0.1 * 0.9**8)
    assert state["optimizer_number.step.weight"] == 8
    for stop in range(1, 5):
        stopped, restored = device.make_executor(config), device.make_executor(config)
        train(stopped, batches[:stop])
        restored.restore(stopped.state())
        train(restored, batches[stop:], first=stop + 1)
        assert difference(state, restored.state()) is None
    assert device.probe(config, make_batch(samples, 2)).differs is None


def test_a_step_that_is_not_applied_leaves_the_buffers(sources: Sources) -> None:
    case = CASES["batch-norm"]
    executor = sources.device().make_executor(case.run(sources))
    batch = make_batch(case.samples, 6)
    train(executor, [batch])
    before = executor.state()
    assert "weights.body.1.running_mean" in before
    batch["x"][0] = np.inf
    (outcome,) = train(executor, [batch], first=2)
    assert not outcome.applied
    assert difference(before, executor.state()) is None


IN_PLACE = """
from torch import nn

class Net(nn.Linear):
    def forward(self, x):
        x += 1
        return super().forward(x.relu_())

def build(schema):
    return Net(4, 4)

def augment(batch):
    batch["x"] *= 2
    return batch
"""


def test_samples_in_memory_are_not_changed(sources: Sources) -> None:
    """Whoever changes what it gets in place: others read the same memory."""
    samples = schema({"x": ("float32", (4,))})
    executor = sources.device().make_executor(
        run_config(sources.add({"net.py": IN_PLACE}), samples)
    )
    batch = make_batch(samples, 6)
    before = {name: array.copy() for name, array in batch.items()}
    train(executor, [batch])
    executor.predict(batch, micro_batch_size=6)
    executor.evaluate(batch, micro_batch_size=6)
    assert difference(before, batch) is None


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_repeats_too(precision: str, sources: Sources) -> None:
    case = CASES["batch-norm"]
    config = case.run(sources, precision=precision)
    found = sources.device().probe(config, make_batch(case.samples, 2))
    assert found.differs is None
