"""A forecast of a series: the next values from those before, by a GRU."""

from torch import nn


class Net(nn.Module):
    """Values before x [n, T] to the values after [n, H]."""

    def __init__(self, hidden, after):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, after)

    def forward(self, x):
        _, last = self.gru(x[..., None])
        return self.head(last[0])


def build(schema, *, hidden=64):
    (after,) = schema.targets["y"].shape
    return Net(hidden, after)


def metrics(outputs, batch):
    return {"absolute_error": (outputs - batch["y"]).abs().mean()}


def predictions(outputs):
    return {"forecast": outputs}
