"""The train request, and the segment that it makes; without I/O."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from omega21.client.store.run_folder import EvaluateEvery
from omega21.data.code.bundle import CodeBundle
from omega21.data.sources.generators import KINDS, generated_width
from omega21.language import _
from omega21.language.borrowed import translated
from omega21.models.registry import built_in_config, default_task
from omega21.protocol.errors import InvalidRequest, OtherConfig
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.plan import (
    MAX_SAMPLES,
    MAX_SHARDS_PER_REQUEST,
    Kind,
    SamplesType,
    Segment,
    Source,
    check_batch_bytes,
)
from omega21.protocol.runs import PrecisionAsked, RunConfig
from omega21.protocol.schema import Schema
from omega21.protocol.shards import samples_per_shard
from omega21.protocol.tasks.task import BuiltInTask, Task

MAX_VALIDATION = 100_000
"""Maximum number of held-out samples: their scores are joined in memory."""

GENERATED_SAMPLES = 500
"""Number of samples where none is given, nor data."""

Given = Path | Mapping[str, Any] | tuple[Any, Any]
"""Samples of the user's: a file, named arrays, or a pair of arrays x and y."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train: a run, its samples, and how they are used.

    `data` is a file, named arrays such as `{"x": x, "y": y}`, or a pair of arrays x and y; without
    it samples are generated. `targets` names the tensors that are no inputs, by default `y`. The
    schema of a task of the user's own is that of the data, unless `sample_schema` is given; a
    built-in task has its own.

    Without `samples`, all of the data that are not held out, or 500 generated ones. `seed` is the
    run's, and that of its data and their order. `validation` samples are held out and evaluated at
    the end, and on the way as `evaluate_every` says. `micro_batch` samples of a batch are computed
    at a time, or all. float32 inputs go up as they are, unless `samples_type` says otherwise, or is
    left open and `budget`, in bytes of this training in both directions, cannot be kept with it.

    `code` is the source of a task of the user's own (`client.request.model`); with `offered` the
    source is that which the server was started with.
    """

    run: str
    samples: int | None = None
    batch_size: int = 64
    epochs: int = 1
    kind: Kind = "simple"
    anomaly_percent: float = 10.0
    seed: int = 42
    data: Given | None = None
    targets: tuple[str, ...] | None = None
    validation: int = 1000
    evaluate_every: EvaluateEvery = "epoch"
    task: Task = field(default_factory=default_task)
    sample_schema: Schema | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: PrecisionAsked = "auto"
    deterministic: bool = True
    samples_type: SamplesType | None = None
    budget: int | None = None
    micro_batch: int | None = None
    code: CodeBundle | None = None
    offered: bool = False

    def config(self) -> RunConfig:
        """Return the configuration of the run. Raises InvalidRequest."""
        try:
            fields: dict[str, Any] = {
                "optimizer": self.optimizer,
                "precision": self.precision,
                "seed": self.seed,
                "deterministic": self.deterministic,
            }
            if isinstance(self.task, BuiltInTask):
                return built_in_config(self.task, **fields)
            return RunConfig.model_validate(
                {"task": self.task, "sample_schema": self.sample_schema, **fields}
            )
        except ValidationError as error:
            raise invalid_option(error) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """A data file: its digest, its number of samples, and how many of them this run holds out."""

    sha256: str
    samples: int
    held_out: int | None


@dataclass(frozen=True, slots=True)
class NextSegment:
    """A segment to append, without shards, and the number of held-out samples of its file."""

    segment: Segment
    held_out: int = 0


def next_segment(
    request: TrainRequest, segments: Sequence[Segment], *, file: FileFacts | None
) -> NextSegment:
    """Create the segment that continues a plan, with the samples after the highest used so far.

    Raises InvalidRequest for an option out of range, or when a file has too few samples left.
    """
    if not 0 <= request.validation <= MAX_VALIDATION:
        raise InvalidRequest(
            _("validation takes 0 to {most} samples, got {asked}").format(
                most=MAX_VALIDATION, asked=request.validation
            )
        )
    if file is not None:
        return _from_file(request, segments, file)
    samples = GENERATED_SAMPLES if request.samples is None else request.samples
    generated_width(request.config().sample_schema)
    generated = [segment for segment in segments if segment.source.kind in KINDS]
    offset = _highest(generated)
    if offset + samples > MAX_SAMPLES:
        raise InvalidRequest(
            _("a run has at most {most} generated samples").format(most=MAX_SAMPLES)
        )
    try:
        source = Source(
            kind=request.kind,
            seed=request.seed,
            offset=offset,
            anomaly_percent=request.anomaly_percent,
        )
        return NextSegment(_segment(request, source, samples))
    except ValidationError as error:
        raise invalid_option(error) from error


def _from_file(request: TrainRequest, segments: Sequence[Segment], file: FileFacts) -> NextSegment:
    used = used_of_file(segments, file.sha256)
    free = file.samples - used
    if file.held_out is None:
        wanted = request.validation if request.samples is not None else file.samples // 5
        held_out = max(0, min(request.validation, wanted, free - (request.samples or 0)))
    else:
        held_out = file.held_out
    samples = free - held_out if request.samples is None else request.samples
    if not 0 < samples <= free - held_out:
        raise InvalidRequest(
            _(
                "the data file has {free} samples left for training: of {samples}, {used} are "
                "trained and {held_out} held out for validation"
            ).format(free=free - held_out, samples=file.samples, used=used, held_out=held_out),
            hint=_("ask for no more with --samples, or give another file"),
        )
    try:
        source = Source(kind="file", seed=request.seed, offset=used, file_sha256=file.sha256)
        return NextSegment(_segment(request, source, samples), held_out)
    except ValidationError as error:
        raise invalid_option(error) from error


def used_of_file(segments: Sequence[Segment], sha256: str) -> int:
    """Count the samples of a data file that a plan uses."""
    return _highest([segment for segment in segments if segment.source.file_sha256 == sha256])


def check_same_config(run: str, *, asked: RunConfig, there: RunConfig) -> None:
    """Raise OtherConfig, naming each field that differs."""
    wanted, held = (dict(_leaves(c.model_dump(mode="json"))) for c in (asked, there))
    differing = [
        _("{field} is {there}, asked for {asked}").format(
            field=name, there=held.get(name), asked=wanted.get(name)
        )
        for name in held | wanted
        if held.get(name) != wanted.get(name)
    ]
    if differing:
        raise OtherConfig(
            _("run {run!r} has another configuration: {differing}").format(
                run=run, differing="; ".join(differing[:4])
            )
        )


def _segment(request: TrainRequest, source: Source, samples: int) -> Segment:
    schema = request.config().sample_schema
    most = MAX_SHARDS_PER_REQUEST * samples_per_shard(schema)
    if samples > most:
        raise InvalidRequest(
            _("{samples} samples are more than the {most} that fit in one segment").format(
                samples=samples, most=most
            ),
            hint=_("train them with several commands of the same --run"),
        )
    segment = Segment(
        samples=samples,
        batch_size=request.batch_size,
        epochs=request.epochs,
        order_seed=request.seed,
        source=source,
        samples_type=request.samples_type or "float32",
        micro_batch=request.micro_batch,
    )
    check_batch_bytes(segment, schema)
    return segment


def _highest(segments: Sequence[Segment]) -> int:
    return max((segment.source.offset + segment.samples for segment in segments), default=0)


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the path and the value of each field of a document."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{path}.{name}" if path else name)


def invalid_option(error: ValidationError) -> InvalidRequest:
    """Return the error that names an option that is out of range."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]).replace("_", "-")
    return InvalidRequest(
        _("{option}: {message}, got {given!r}").format(
            option=where, message=translated(first["msg"]), given=first["input"]
        )
    )
