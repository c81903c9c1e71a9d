"""Runs of the tiny model: small enough to be trained again and again, and what came of them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from omega21 import AsyncClient
from omega21.client.events import Done, Event
from omega21.client.request.request import TrainRequest
from omega21.client.training.options import TrainOptions
from omega21.models.corteza.config import TINY_TASK

_Kind = TypeVar("_Kind")


def tiny(run: str, **options: Any) -> TrainRequest:
    """Order a few steps of the tiny model: 600 samples are three shards and ten steps."""
    defaults = {"samples": 600, "validation": 64, "task": TINY_TASK}
    return TrainRequest(run=run, **{**defaults, **options})


async def train(
    client: AsyncClient, order: TrainRequest, *, workdir: Path, patience: float = 60.0
) -> list[Event]:
    """Train an order and return all its events."""
    async with client.train(order, TrainOptions(workdir=workdir, patience=patience)) as events:
        return [event async for event in events]


def done(events: Sequence[Event]) -> Done:
    """The last event, which is the end."""
    last = events[-1]
    assert isinstance(last, Done)
    return last


def of_type(events: Sequence[Event], kind: type[_Kind]) -> list[_Kind]:
    """The events of one type."""
    return [event for event in events if isinstance(event, kind)]


def stored(folder: Path) -> list[tuple[int, float, str]]:
    """Step, loss and digest of each row in a run folder's results, as any program reads them."""
    with closing(sqlite3.connect(folder / "results.sqlite")) as database:
        return database.execute("SELECT step, loss, digest FROM steps ORDER BY step").fetchall()
