"""An autoencoder: learns to describe a sample by a few numbers. There are no labels."""

from torch import nn


class Net(nn.Module):
    """Samples x [n, …] to their code [n, code], reconstruction [n, …] and error [n]."""

    def __init__(self, features, hidden, code):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, code)
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, features)
        )

    def forward(self, x):
        flat = x.flatten(1)
        code = self.encoder(flat)
        found = self.decoder(code)
        error = (found - flat).square().mean(1)
        return {"code": code, "reconstruction": found.reshape(x.shape), "error": error}


def build(schema, *, hidden=128, code=8):
    features = 1
    for size in schema.inputs["x"].shape:
        features *= size
    return Net(features, hidden, code)


def loss(outputs, batch):
    return outputs["error"].mean()
