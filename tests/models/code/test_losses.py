"""Losses by name: those of torch, for outputs and targets of the shapes that people have."""

from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omega21.models.code.losses import LOSSES, LossByName, default_loss
from omega21.protocol.errors import TaskFailed
from omega21.protocol.schema import Schema, TensorType
from omega21.protocol.tasks.task import LOSS_NAMES
from tests.models.code.sources import schema

ANY = schema({"x": ("float32", (4,))}, {"y": ("float32", ())})


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(*shape: int, most: int = 5) -> Tensor:
    return torch.randint(most, shape, generator=torch.Generator().manual_seed(1))


def test_the_names_that_clients_know_are_those_that_there_are() -> None:
    assert tuple(LOSSES) == LOSS_NAMES


@pytest.mark.parametrize(
    ("name", "outputs", "target", "expected"),
    [
        ("cross_entropy", values(6, 5), classes(6), F.cross_entropy(values(6, 5), classes(6))),
        (
            "cross_entropy",
            values(6, 7, 5),
            classes(6, 7).to(torch.uint8),
            F.cross_entropy(values(6, 7, 5).movedim(2, 1), classes(6, 7)),
        ),
        (
            "cross_entropy",
            values(6, 5, 7),
            classes(6, 7),
            F.cross_entropy(values(6, 5, 7), classes(6, 7)),
        ),
        (
            "nll",
            values(6, 5).log_softmax(1),
            classes(6),
            F.cross_entropy(values(6, 5), classes(6)),
        ),
        (
            "bce_with_logits",
            values(6, 1),
            classes(6, most=2).bool(),
            F.binary_cross_entropy_with_logits(values(6, 1)[:, 0], classes(6, most=2).float()),
        ),
        (
            "bce",
            values(6).sigmoid(),
            classes(6, most=2).float(),
            F.binary_cross_entropy_with_logits(values(6), classes(6, most=2).float()),
        ),
        ("mse", values(6), values(6, 1, seed=1), F.mse_loss(values(6), values(6, 1, seed=1)[:, 0])),
        ("mae", values(6, 3), values(6, 3, seed=1), F.l1_loss(values(6, 3), values(6, 3, seed=1))),
        (
            "huber",
            {"one": values(6)},
            values(6, seed=1),
            F.huber_loss(values(6), values(6, seed=1)),
        ),
        ("mse", values(6).bfloat16(), values(6, seed=1), None),
    ],
)
def test_it_is_the_mean_that_torch_has(
    name: str, outputs: Any, target: Tensor, expected: Tensor | None
) -> None:
    loss = LossByName(name, ANY)(outputs, {"x": values(6, 4), "y": target})
    assert loss.dtype == torch.float32
    if expected is not None:
        torch.testing.assert_close(loss, expected)


def test_a_reconstruction_is_compared_with_the_input() -> None:
    images = classes(6, 3, 3).to(torch.uint8)
    loss = LossByName("reconstruction", schema({"image": ("uint8", (3, 3))}))
    torch.testing.assert_close(
        loss(values(6, 3, 3), {"image": images}), F.mse_loss(values(6, 3, 3), images.float())
    )


@pytest.mark.parametrize(
    ("name", "outputs", "target", "accuracy"),
    [
        ("cross_entropy", torch.eye(3), torch.tensor([0, 1, 1]), 2 / 3),
        ("cross_entropy", torch.eye(3)[None], torch.tensor([[0, 1, 2]]), 1.0),
        ("bce", torch.tensor([0.2, 0.7]), torch.tensor([0.0, 0.0]), 0.5),
        ("bce_with_logits", torch.tensor([[-0.2], [0.7]]), torch.tensor([False, True]), 1.0),
    ],
)
def test_losses_of_classes_have_an_accuracy(
    name: str, outputs: Tensor, target: Tensor, accuracy: float
) -> None:
    metrics = LossByName(name, ANY).metrics(outputs, {"y": target})
    assert {name: float(value) for name, value in metrics.items()} == {
        "accuracy": pytest.approx(accuracy)
    }


@pytest.mark.parametrize("name", ["mse", "mae", "huber"])
def test_others_have_none(name: str) -> None:
    loss = LossByName(name, ANY)
    assert loss.metrics(values(6), {"y": values(6)}) == {}
    assert loss.scores(values(6)) is None


@pytest.mark.parametrize(
    ("name", "outputs", "shape"),
    [
        ("cross_entropy", values(6, 2), (6,)),
        ("cross_entropy", values(6, 3), None),
        ("nll", values(6, 2).log_softmax(1), (6,)),
        ("bce", values(6, 1).sigmoid(), (6,)),
        ("bce_with_logits", values(6), (6,)),
        ("bce_with_logits", values(6, 2), None),
    ],
)
def test_scores_are_of_the_second_class(
    name: str, outputs: Tensor, shape: tuple[int, ...] | None
) -> None:
    scores = LossByName(name, ANY).scores(outputs)
    assert (None if scores is None else tuple(scores.shape)) == shape
    if name == "cross_entropy" and scores is not None:
        torch.testing.assert_close(scores, outputs.softmax(1)[:, 1])


@pytest.mark.parametrize(
    ("outputs", "target"),
    [(values(6, 3), values(6)), (values(6), values(6, 6)), (values(6, 1, 2), values(6, 2))],
)
def test_nothing_is_broadcast(outputs: Tensor, target: Tensor) -> None:
    with pytest.raises(TaskFailed, match=r"loss mse: outputs .*: their shapes differ"):
        LossByName("mse", ANY)(outputs, {"y": target})


@pytest.mark.parametrize("dtype", get_args(TensorType))
def test_the_default_follows_from_the_type_of_the_target(dtype: str) -> None:
    name = default_loss(schema({"x": ("float32", ())}, {"y": (dtype, ())}))
    expected = {"float": "mse", "bool": "bce_with_logits"}
    assert name == expected.get("float" if dtype.startswith("float") else dtype, "cross_entropy")


@pytest.mark.parametrize(
    ("samples", "name"),
    [
        (schema({"x": ("float32", ())}), "reconstruction"),
        (schema({"x": ("float32", ()), "z": ("float32", ())}), None),
        (schema({"x": ("float32", ())}, {"a": ("bool", ()), "b": ("bool", ())}), None),
    ],
)
def test_no_default_is_guessed(samples: Schema, name: str | None) -> None:
    assert default_loss(samples) == name
