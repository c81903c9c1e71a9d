"""A regressor of two inputs and two targets, with an optimizer of its own."""

import torch

from . import layers


def build(schema, *, hidden=6):
    return layers.TwoTowers(schema.inputs["left"].shape[0], schema.inputs["right"].shape[0], hidden)


def loss(outputs, batch):
    first, second = outputs
    return (first - batch["a"]).square().mean() + (second - batch["b"]).abs().mean()


def predictions(outputs):
    return {"a": outputs[0], "b": outputs[1]}


def optimizer(parameters):
    half = len(parameters) // 2
    groups = [{"params": parameters[:half], "lr": 0.05}, {"params": parameters[half:], "lr": 0.01}]
    return torch.optim.NAdam(groups, momentum_decay=0.01)
