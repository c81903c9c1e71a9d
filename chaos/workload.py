"""What is trained while things go wrong, and what has to come of it whatever happens."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import anyio

from omega21 import AsyncClient
from omega21.client.api.api import Api
from omega21.client.http.retry import RetryRules
from omega21.client.request.model import with_model
from omega21.client.request.request import TrainRequest
from omega21.data.sources.generators import generate
from omega21.models.corteza.config import TINY, run_config
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.steps import StepRecord

NETS = Path(__file__).with_name("nets")
SCHEMA = Schema(
    inputs={"x": TensorSpec(dtype="float32", shape=(400,))},
    targets={"y": TensorSpec(dtype="float32", shape=())},
)
SAMPLES, BATCH_SIZE, EPOCHS = 512, 4, 2  # one shard, 256 steps
PATIENCE_SECONDS = 150.0

INLINE_BATCHES = 24
INLINE_BATCH_SIZE = 8
INLINE_EPOCHS = 2
BATCHES_A_FEEDBACK = 3


class QuickApi(Api):
    """Calls that are tried again sooner than a person's: there are many faults to go through."""

    def patient(self, patience: float) -> Self:
        """Return calls that outlast a broken link."""
        rules = RetryRules(patience=patience, first_delay=0.02, longest_delay=0.2)
        return self._over(self.transport.with_rules(rules))


class QuickClient(AsyncClient):
    """A client that tries again sooner; what it does then is the same."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.api = QuickApi(self.api.transport)


def order(run: str, seed: int) -> TrainRequest:
    """Say what a run trains: the same whatever its name, so that all come to the same weights.

    A model in source of its own, of two files, with batch norm and dropout.
    """
    request = TrainRequest(
        run=run,
        samples=SAMPLES,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        seed=seed,
        validation=64,
        sample_schema=SCHEMA,
    )
    return with_model(request, f"{NETS / 'net.py'}:build", loss="bce_with_logits")


class Step(NamedTuple):
    """One result, as far as it does not tell the time."""

    step: int
    loss: float | None
    metrics: str
    """As JSON."""
    samples: int
    digest: str


class Totals(NamedTuple):
    """What a run's results add up to."""

    batches: int
    samples: int
    mean_loss: float
    feedback: int


@dataclass(frozen=True)
class Outcome:
    """All that has to be equal to the undisturbed run's."""

    steps: tuple[Step, ...]
    weights_sha256: str
    totals: Totals
    """Summed up by the server, or here where the server does not hold the run's beginning."""


@dataclass(frozen=True)
class Verdict:
    """How an outcome compares with the undisturbed one."""

    lost: int
    repeated: int
    digests_equal: bool
    totals_equal: bool

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, repeated or changed."""
        return not self.lost and not self.repeated and self.digests_equal and self.totals_equal


def compare(outcome: Outcome, undisturbed: Outcome) -> Verdict:
    """Count the steps that are missing and those that are there, or were trained, once too often.

    A step trained twice shows in the totals and in the weights, where it does not show as a row.
    """
    expected = {step.step for step in undisturbed.steps}
    numbers = [step.step for step in outcome.steps]
    surplus = len(numbers) - len(set(numbers) & expected)
    more = outcome.totals.batches - undisturbed.totals.batches
    return Verdict(
        lost=len(expected - set(numbers)),
        repeated=max(0, surplus, more),
        digests_equal=outcome.steps == undisturbed.steps
        and outcome.weights_sha256 == undisturbed.weights_sha256,
        totals_equal=outcome.totals == undisturbed.totals,
    )


async def planned_outcome(
    api: Api, run: str, folder: Path, *, server_has_all: bool = True
) -> Outcome:
    """Read what came of a planned run: its results from the run folder, the rest from the server.

    A server that was killed after the last step works its way forward again first.
    """
    state = await api.runs.state(run)
    while state.step < state.plan_steps:
        await anyio.sleep(0.05)
        state = await api.runs.state(run)
    steps = _stored_steps(folder)
    totals = await _server_totals(api, run) if server_has_all else totals_of(steps)
    return Outcome(steps, state.weights_sha256, totals)


async def inline_outcome(api: Api, run: str) -> Outcome:
    """Read what came of inline batches: all of it is on the server."""
    steps = tuple([_as_step(row) async for row in api.steps.history(run)])
    state = await api.runs.state(run)
    return Outcome(steps, state.weights_sha256, await _server_totals(api, run))


async def train_inline(api: Api, run: str, seed: int) -> None:
    """Train batches one by one, and send feedback now and then, as the older clients do.

    Raises AssertionError when a reply is not the one of its batch.
    """
    await api.runs.create(run, config=run_config(TINY, seed=seed))
    for number in range(INLINE_BATCHES):
        first = number * INLINE_BATCH_SIZE
        batch = generate(
            "simple",
            seed,
            range(first, first + INLINE_BATCH_SIZE),
            anomaly_percent=25,
            features=1600,
        )
        trained = await api.legacy.train_batch(batch, run=run, epochs=INLINE_EPOCHS)
        expected = (number + 1) * INLINE_EPOCHS
        if trained.step != expected:
            raise AssertionError(f"batch {number} is step {trained.step}, not {expected}")
        if number % BATCHES_A_FEEDBACK == 0:
            await api.legacy.feedback([0.5] * 16, validated=bool(number % 2), run=run)


def _stored_steps(folder: Path) -> tuple[Step, ...]:
    columns = ", ".join(Step._fields)
    with closing(sqlite3.connect(folder / "results.sqlite")) as database:
        rows = database.execute(f"SELECT {columns} FROM steps ORDER BY step").fetchall()
    return tuple(Step(*row) for row in rows)


def _as_step(row: StepRecord) -> Step:
    return Step(row.step, row.loss, json.dumps(row.metrics), row.samples, row.digest)


def totals_of(steps: Sequence[Step]) -> Totals:
    """Add up results here, where feedback is not known."""
    losses = [step.loss for step in steps if step.loss is not None]
    return Totals(len(steps), sum(step.samples for step in steps), sum(losses) / len(losses), 0)


async def _server_totals(api: Api, run: str) -> Totals:
    said = (await api.legacy.status(run)).estadisticas
    return Totals(
        said.total_batches,
        said.total_muestras,
        said.loss_promedio_global,
        said.feedback.recibido,
    )
