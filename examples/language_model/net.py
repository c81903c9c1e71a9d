"""The next byte of a text: a small Transformer."""

import torch
from torch import nn

BYTES = 256


class Net(nn.Module):
    """Tokens [n, T] to logits [n, T, 256] of the byte that follows each of them."""

    def __init__(self, length, width, heads, layers):
        super().__init__()
        self.token = nn.Embedding(BYTES, width)
        self.place = nn.Parameter(torch.zeros(length, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, BYTES)
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        self.register_buffer("hidden", hidden)  # true where a token would see a later one

    def forward(self, tokens):
        h = self.token(tokens) + self.place
        return self.head(self.norm(self.layers(h, mask=self.hidden)))


def build(schema, *, width=128, heads=4, layers=2):
    (length,) = schema.inputs["tokens"].shape
    return Net(length, width, heads, layers)


def predictions(outputs):
    """The probability of each byte after the last token [n, 256]."""
    return {"probability": outputs[:, -1].softmax(-1)}
