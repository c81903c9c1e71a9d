"""A module of another file, which imports by its plain name."""

import sizes
import torch
from torch import nn


class TwoTowers(nn.Module):
    def __init__(self, left, right, hidden):
        super().__init__()
        self.left = nn.Linear(left, hidden)
        self.right = nn.Linear(right, hidden)
        self.out = nn.Linear(2 * hidden, sizes.OUTPUTS)

    def forward(self, right, left):
        both = torch.cat([self.left(left), self.right(right)], dim=1).tanh()
        return self.out(both).unbind(1)
