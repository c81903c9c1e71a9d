"""A layer that mixes the values of neighbours in a graph."""

import networkx as nx
import torch
from torch import nn


def neighbours(rows, columns):
    """Return the weights [nodes, nodes] by which nodes of a grid see their neighbours."""
    grid = nx.grid_2d_graph(rows, columns)
    seen = torch.tensor(nx.to_numpy_array(grid), dtype=torch.float32)
    seen += torch.eye(len(seen))
    scale = seen.sum(1).rsqrt()
    return scale[:, None] * seen * scale


class GraphConvolution(nn.Module):
    """Values [n, nodes, in] to [n, nodes, out] (Kipf and Welling, 2017)."""

    def __init__(self, weights, *, values_in, values_out):
        super().__init__()
        self.register_buffer("weights", weights)
        self.linear = nn.Linear(values_in, values_out)

    def forward(self, x):
        return self.linear(self.weights @ x)
