"""Inference with a run's weights: samples are uploaded as shards, outputs and scores returned.

A request has a limited number of shards, so that training does not wait long; the parts are joined
here, and are valid only if all of them were computed with the weights of one step.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray

from omega21.client.api.api import Api
from omega21.client.http.decoding import step_of
from omega21.client.store.summary import Scored
from omega21.data.samples import as_inputs, as_type
from omega21.data.scores import auroc, average_precision
from omega21.language import _
from omega21.models.registry import value_check
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import (
    BodyTooLarge,
    InvalidReply,
    InvalidSamples,
    InvalidShard,
    PlanUnfinished,
)
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.inference import MAX_OUTPUT_BYTES, MAX_SHARDS_TO_COMPUTE
from omega21.protocol.plan import SamplesType
from omega21.protocol.schema import Schema
from omega21.protocol.shards import (
    Tensors,
    decode_shard,
    encode_shard,
    samples_per_shard,
    shard_samples,
)
from omega21.protocol.steps import EvaluateReply

PREDICTED_AT_ONCE: Final = 256
"""Most samples in a shard to predict: their outputs may be larger than they are."""

ALARM_PROBABILITY: Final = 0.5
"""Samples with a higher score are predicted as 1, as in the server's metrics."""

_TRIES: Final = 3

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a task predicts for n samples, in their order, with the weights of one step.

    `outputs` has the task's named predictions, each [n, …]; `prediction[name]` is one of them.
    """

    step: int
    outputs: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.outputs[name]

    def __len__(self) -> int:
        """Count the samples."""
        return len(next(iter(self.outputs.values())))


async def predict(api: Api, run: str, *, inputs: object) -> Prediction:
    """Compute predictions for the inputs of a run's schema: a map of arrays, or its one input.

    Raises UnknownRun, InvalidSamples, PlanUnfinished when training kept changing the weights
    between the parts.
    """
    config = (await api.runs.state(run)).config
    schema = config.sample_schema
    tensors = as_inputs(inputs, schema, check=value_check(config.task))
    size = min(samples_per_shard(schema), PREDICTED_AT_ONCE)
    names = [name async for name in _upload(api, _parts(tensors, size))]

    async def compute(group: Sequence[str]) -> _Computed[dict[str, NDArray[np.generic]]]:
        answer = await api.inference.predict(run, group)
        step = step_of(answer.headers)
        if step is None:
            raise InvalidReply(_("the reply does not name its step"))
        shard_bytes = max(1, len(answer.body) // len(group))
        return _Computed(step, _outputs(answer.body), next_size=MAX_OUTPUT_BYTES // shard_bytes)

    step, parts = await _under_one_step(names, compute=compute, first=1)
    if any(part.keys() != parts[0].keys() for part in parts):
        raise InvalidReply(_("the outputs have other names in each part"))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for array in joined.values():
        _check_count(len(array), shard_samples(tensors))
    return Prediction(step, joined)


def _outputs(body: bytes) -> dict[str, NDArray[np.generic]]:
    """Parse the outputs of some shards. Raises InvalidReply if that fails."""
    try:
        return decode_shard(body, compressed=False, max_bytes=MAX_OUTPUT_BYTES)
    except (InvalidShard, BodyTooLarge) as error:
        raise InvalidReply(
            _("the outputs cannot be read: {why}").format(why=error.message)
        ) from error


def _check_count(found: int, expected: int) -> None:
    if found != expected:
        raise InvalidReply(
            _("the server computed {found} samples, {expected} were asked for").format(
                found=found, expected=expected
            )
        )


async def score(
    api: Api,
    run: str,
    *,
    blocks: Iterable[Tensors],
    schema: Schema,
    samples_type: SamplesType = "float32",
) -> Scored:
    """Evaluate samples of the run's schema; one block is in memory at a time.

    Where the schema has one target of one number, the scores are compared with it. Raises
    InvalidSamples when there are none, PlanUnfinished as `predict` does.
    """
    target = only_label(schema)
    samples, labels = 0, list[NDArray[np.generic]]()

    def shards() -> Iterator[Tensors]:
        nonlocal samples
        for block in blocks:
            for part in _parts(block, samples_per_shard(schema)):
                samples += shard_samples(part)
                if target is not None:
                    labels.append(part[target])
                yield as_type(part, samples_type, schema=schema)

    names = [name async for name in _upload(api, shards())]
    if not names:
        raise InvalidSamples(_("there are no samples to evaluate"))

    async def compute(group: Sequence[str]) -> _Computed[EvaluateReply]:
        reply = await api.inference.evaluate(run, group)
        return _Computed(reply.step, reply, next_size=MAX_SHARDS_TO_COMPUTE)

    step, replies = await _under_one_step(names, compute=compute)
    _check_count(sum(reply.samples for reply in replies), samples)
    scores, y = _joined(replies), _binary(labels)
    metrics = _mean_metrics(replies)
    not_finite = 0
    if scores is not None:
        _check_count(len(scores), samples)
        not_finite = int(np.count_nonzero(~np.isfinite(scores)))
        if y is not None:
            ranked = score_metrics(scores, y)
            metrics = {**ranked, **metrics, **ranked}  # first, and not the task's of these names
    evaluation = Evaluation(
        step=step,
        samples=samples,
        loss=_mean_loss(replies),
        metrics=metrics,
        not_finite=not_finite,
    )
    return Scored(evaluation, scores, y)


def _binary(labels: Sequence[NDArray[np.generic]]) -> NDArray[np.float32] | None:
    """Join labels [n] that are all 0 or 1; None for any others."""
    if not labels:
        return None
    y = np.concatenate(labels).astype(np.float32)
    return y if bool(((y == 0) | (y == 1)).all()) else None


def score_metrics(scores: NDArray[np.float32], y: NDArray[np.float32]) -> dict[str, float | None]:
    """Return what scores [n] tell of labels [n], 0 or 1, in the order that views show."""
    alarms, finite = scores > ALARM_PROBABILITY, np.isfinite(scores)
    known, labelled = scores[finite], y[finite]
    both = bool(labelled.any()) and not bool(labelled.all())
    return {
        "auroc": auroc(known, labelled) if both else None,
        "average_precision": average_precision(known, labelled) if both else None,
        "positives": float(np.count_nonzero(y)),
        "true_positives": float(np.count_nonzero(alarms & (y == 1))),
        "false_positives": float(np.count_nonzero(alarms & (y == 0))),
    }


def _joined(replies: Sequence[EvaluateReply]) -> NDArray[np.float32] | None:
    """Join the scores of replies; None if none has any. Raises InvalidReply for invalid ones."""
    if all(reply.scores is None for reply in replies):
        return None
    try:
        return np.concatenate([reply.score_array() for reply in replies])
    except ValueError as error:
        raise InvalidReply(_("the scores cannot be read: {why}").format(why=error)) from error


def _mean_metrics(replies: Sequence[EvaluateReply]) -> dict[str, float | None]:
    """Return the mean of each metric over the samples of the replies in which it is finite."""
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for reply in replies for name in reply.metrics):
        parts = [(reply.metrics.get(name), reply.samples) for reply in replies]
        known = [(value, samples) for value, samples in parts if value is not None]
        count = sum(samples for _value, samples in known)
        means[name] = sum(value * samples for value, samples in known) / count if known else None
    return means


def _mean_loss(replies: Sequence[EvaluateReply]) -> float | None:
    total = 0.0
    for reply in replies:
        if reply.loss is None:
            return None
        total += reply.loss * reply.samples
    return total / sum(reply.samples for reply in replies)


def only_label(schema: Schema) -> str | None:
    """Return the name of a schema's only target, if it is one number for each sample."""
    if len(schema.targets) == 1:
        ((name, spec),) = schema.targets.items()
        if not spec.shape:
            return name
    return None


def _parts(tensors: Tensors, size: int) -> Iterator[dict[str, NDArray[np.generic]]]:
    for start in range(0, shard_samples(tensors), size):
        yield {name: array[start : start + size] for name, array in tensors.items()}


async def _upload(api: Api, shards: Iterable[Tensors]) -> AsyncIterator[str]:
    """Upload the shards that the server lacks, some at a time; yield their digests."""
    waiting = iter(shards)
    while group := await anyio.to_thread.run_sync(_named, waiting):
        content = dict(group)
        for name in await api.shards.missing(list(content)):
            body = await anyio.to_thread.run_sync(encode_shard, content[name])
            await api.shards.put(name, body)
        for (
            name,
            _count,
        ) in group:  # equal shards have one digest, and count as often as they are given
            yield name


def _named(shards: Iterator[Tensors]) -> list[tuple[str, Tensors]]:
    """Take the next shards and compute their digests."""
    return [(tensors_sha256(shard), shard) for shard in islice(shards, MAX_SHARDS_TO_COMPUTE)]


@dataclass(frozen=True, slots=True)
class _Computed(Generic[_Part]):
    """What was computed of some shards, and how many of them the next request may have."""

    step: int
    part: _Part
    next_size: int


async def _under_one_step(
    names: Sequence[str],
    *,
    compute: Callable[[Sequence[str]], Awaitable[_Computed[_Part]]],
    first: int = MAX_SHARDS_TO_COMPUTE,
) -> tuple[int, list[_Part]]:
    """Compute all shards in groups, from the start again when the run made a step in between."""
    for _try in range(_TRIES):
        parts: list[_Part] = []
        steps: set[int] = set()
        place, size = 0, first
        while place < len(names) and len(steps) < 2:
            found = await compute(names[place : place + size])
            steps.add(found.step)
            parts.append(found.part)
            place, size = place + size, max(1, min(found.next_size, MAX_SHARDS_TO_COMPUTE))
        if len(steps) == 1:
            return steps.pop(), parts
    raise PlanUnfinished(
        _("the weights changed while {count} shards were computed").format(count=len(names)),
        hint=_("wait until the run is idle, or pause it"),
    )
