"""A recurrent language model of int64 tokens, with its own loss, metrics and vectors."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, vocabulary, width):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, vocabulary)

    def forward(self, tokens):
        hidden, _ = self.rnn(self.embed(tokens))
        return {"logits": self.out(hidden), "hidden": hidden[:, -1]}


def build(schema, *, vocabulary=11, width=8):
    return Net(vocabulary, width)


def loss(outputs, batch):
    return F.cross_entropy(outputs["logits"].transpose(1, 2), batch["following"])


def metrics(outputs, batch):
    right = outputs["logits"].argmax(2) == batch["following"]
    return {"accuracy": right.float().mean(), "constant": 1.0}


def vectors(outputs, batch):
    return {"hidden": outputs["hidden"].mean(0)}
