"""Inference with a run's weights: samples are uploaded as shards, outputs and scores returned.

A request has a limited number of shards, so that training does not wait long; the parts are joined
here, and are valid only if all of them were computed with the weights of one step.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray

from omega21.client.api.api import Api
from omega21.client.api.inference import MAX_OUTPUT_BYTES
from omega21.client.http.decoding import step_of
from omega21.client.store.summary import Scored
from omega21.data.samples import Samples, as_samples, as_type
from omega21.data.scores import auroc, average_precision
from omega21.language import _
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import (
    BodyTooLarge,
    InvalidReply,
    InvalidSamples,
    InvalidShard,
    PlanUnfinished,
)
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.inference import MAX_SHARDS_TO_COMPUTE
from omega21.protocol.legacy import COHERENCE, DENDRITES
from omega21.protocol.plan import SamplesType
from omega21.protocol.shards import SHARD_SAMPLES, Tensors, decode_shard, encode_shard
from omega21.protocol.steps import EvaluateReply

ALARM_PROBABILITY: Final = 0.5
"""Samples with a higher anomaly probability count as anomalies, as in the server's metrics."""

_TRIES: Final = 3
_OUTPUTS: Final = {"anomaly_prob": (), "dendrites": (DENDRITES,), "coherence": (COHERENCE,)}
"""The outputs of a prediction, and the shape of each for one sample."""

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's outputs for n samples, in their order, with the weights of one step.

    `anomaly_prob` is float32 [n], `dendrites` [n, 16] and `coherence` [n, 64].
    """

    step: int
    anomaly_prob: NDArray[np.float32]
    dendrites: NDArray[np.float32]
    coherence: NDArray[np.float32]


async def predict(api: Api, run: str, *, x: NDArray[np.float32]) -> Prediction:
    """Compute outputs for x [n, 1600].

    Raises PlanUnfinished when training kept changing the weights between the parts.
    """
    names = [name async for name in _upload(api, ({"x": part} for part in _parts(x)))]

    async def compute(group: Sequence[str]) -> tuple[int, dict[str, NDArray[np.generic]]]:
        answer = await api.inference.predict(run, group)
        step = step_of(answer.headers)
        if step is None:
            raise InvalidReply(_("the reply does not name its step"))
        return step, _outputs(answer.body)

    step, parts = await _under_one_step(names, compute=compute)
    _check_count(sum(len(part["anomaly_prob"]) for part in parts), len(x))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Prediction(
        step,
        *(joined[name].astype(np.float32) for name in ("anomaly_prob", "dendrites", "coherence")),
    )


def _outputs(body: bytes) -> dict[str, NDArray[np.generic]]:
    """Parse the outputs of some shards. Raises InvalidReply if that fails."""
    try:
        tensors = decode_shard(body, compressed=False, max_bytes=MAX_OUTPUT_BYTES)
    except (InvalidShard, BodyTooLarge) as error:
        raise InvalidReply(
            _("the outputs cannot be read: {why}").format(why=error.message)
        ) from error
    for name, width in _OUTPUTS.items():
        shape = tensors[name].shape[1:] if name in tensors else None
        if shape != width:
            raise InvalidReply(
                _("the outputs cannot be read: {why}").format(
                    why=_("{name} is missing or has another shape").format(name=name)
                )
            )
    return tensors


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
    blocks: Iterable[Samples],
    samples_type: SamplesType = "float32",
) -> Scored:
    """Score samples and compare the scores with their labels; one block is in memory at a time.

    Raises InvalidSamples when there are none, PlanUnfinished as `predict` does.
    """
    labels: list[NDArray[np.float32]] = []

    def shards() -> Iterator[Tensors]:
        for block in blocks:
            samples = as_samples(block)
            for x, y in zip(_parts(samples.x), _parts(samples.y), strict=True):
                labels.append(y)
                yield as_type(Samples(x, y), samples_type)

    names = [name async for name in _upload(api, shards())]
    if not names:
        raise InvalidSamples(_("there are no samples to evaluate"))

    async def compute(group: Sequence[str]) -> tuple[int, EvaluateReply]:
        reply = await api.inference.evaluate(run, group)
        return reply.step, reply

    step, replies = await _under_one_step(names, compute=compute)
    scores, y = _joined(replies), np.concatenate(labels)
    metrics = _mean_metrics(replies)
    if scores is None:
        evaluation = Evaluation(
            step=step, samples=len(y), loss=_mean_loss(replies), metrics=metrics
        )
        return Scored(evaluation)
    _check_count(len(scores), len(y))
    evaluation = Evaluation(
        step=step,
        samples=len(y),
        loss=_mean_loss(replies),
        metrics=score_metrics(scores, y) | metrics,
        not_finite=int(np.count_nonzero(~np.isfinite(scores))),
    )
    return Scored(evaluation, scores, y)


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


def _parts(tensor: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(tensor), SHARD_SAMPLES):
        yield tensor[start : start + SHARD_SAMPLES]


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


async def _under_one_step(
    names: Sequence[str], *, compute: Callable[[Sequence[str]], Awaitable[tuple[int, _Part]]]
) -> tuple[int, list[_Part]]:
    """Compute all groups, from the start again when the run made a step in between."""
    size = MAX_SHARDS_TO_COMPUTE
    groups = [names[start : start + size] for start in range(0, len(names), size)]
    for _try in range(_TRIES):
        parts: list[_Part] = []
        steps: set[int] = set()
        for group in groups:
            step, part = await compute(group)
            steps.add(step)
            parts.append(part)
            if len(steps) > 1:
                break
        else:
            return steps.pop(), parts
    raise PlanUnfinished(
        _("the weights changed while {count} shards were computed").format(count=len(names)),
        hint=_("wait until the run is idle, or pause it"),
    )
