"""A convolutional classifier: batch norm, dropout, augmentation with all three generators."""

import random

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Flatten(),
        )
        self.head = nn.LazyLinear(classes)

    def forward(self, x):
        return self.head(self.body(x))


def build(schema, *, channels=4, classes=10):
    net = Net(channels, classes)
    net(torch.zeros(2, *schema.inputs["x"].shape))
    return net


def augment(batch):
    x = batch["x"]
    x += random.uniform(-0.1, 0.1)
    x *= float(np.random.uniform(0.9, 1.1))
    return {**batch, "x": torch.roll(x, int(torch.randint(3, ())), dims=-1)}


def predictions(outputs):
    return {"probability": outputs.softmax(1), "label": outputs.argmax(1)}
