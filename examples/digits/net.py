"""Handwritten digits: a convolutional classifier with batch norm, dropout and augmentation."""

import torch
import torch.nn.functional as F
from torch import nn

LARGEST = 16  # of a pixel


def block(channels_in, channels_out):
    """A convolution that keeps the size of the image."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Net(nn.Module):
    """Digits x [n, 8, 8], or flat [n, 64], to logits [n, classes]."""

    def __init__(self, channels, classes):
        super().__init__()
        self.body = nn.Sequential(
            block(1, channels),
            block(channels, channels),
            nn.MaxPool2d(2),
            block(channels, 2 * channels),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(2 * channels * 2 * 2, classes),
        )

    def forward(self, x):
        return self.body(x.reshape(-1, 1, 8, 8).float() / LARGEST)


def build(schema, *, channels=32, classes=10):
    return Net(channels, classes)


def augment(batch):
    """Shift each digit by up to one pixel in each direction."""
    x = batch["x"]
    count = len(x)
    padded = F.pad(x.reshape(count, 8, 8), (1, 1, 1, 1))
    row, column = torch.randint(3, (2, count, 1, 1), device=x.device)
    along = torch.arange(8, device=x.device)
    each = torch.arange(count, device=x.device)[:, None, None]
    shifted = padded[each, row + along[:, None], column + along]
    return {**batch, "x": shifted.reshape(x.shape)}


def predictions(outputs):
    return {"probability": outputs.softmax(1), "label": outputs.argmax(1)}
