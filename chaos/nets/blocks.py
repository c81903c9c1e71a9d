"""A layer with buffers, and with randomness in each step."""

from torch import nn


def block(features, width):
    return nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2)
