# /// script
# dependencies = ["networkx>=3"]
# ///
"""Digits as a graph of pixels: a model of two files that needs a package."""

from layers import GraphConvolution, neighbours
from torch import nn

SIDE = 8


class Net(nn.Module):
    """Digits x [n, 8, 8] to logits [n, classes]."""

    def __init__(self, hidden, classes):
        super().__init__()
        grid = neighbours(SIDE, SIDE)
        self.first = GraphConvolution(grid, values_in=1, values_out=hidden)
        self.second = GraphConvolution(grid, values_in=hidden, values_out=hidden)
        self.head = nn.Linear(SIDE * SIDE * hidden, classes)

    def forward(self, x):
        h = x.reshape(len(x), SIDE * SIDE, 1).float() / 16
        h = self.first(h).relu()
        h = self.second(h).relu()
        return self.head(h.flatten(1))


def build(schema, *, hidden=16, classes=10):
    return Net(hidden, classes)


def predictions(outputs):
    return {"probability": outputs.softmax(1), "label": outputs.argmax(1)}
