"""The plan: the append-only list of a run's segments."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from omega21.language import _
from omega21.protocol.digests import documents_sha256
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.messages import Document, Reply, Request
from omega21.protocol.names import RunId, Sha256
from omega21.protocol.runs import RunSummary
from omega21.protocol.schema import Schema

MAX_SAMPLES = 2**40
MAX_BATCH_SIZE = 65_536
MAX_BATCH_BYTES = 4 * 2**30
"""Maximum size of a batch's tensors, in bytes: some batches are in the server's memory at once."""
MAX_EPOCHS = 1_000_000
MAX_SHARDS_PER_REQUEST = 100_000

Kind = Literal["simple", "temporal", "neuronal"]
"""The kinds of generated data."""

SourceKind = Literal["simple", "temporal", "neuronal", "file", "inline"]


SamplesType = Literal["float32", "float16"]
"""The type in which float32 inputs are sent and stored. Batches have float32 either way."""


class Source(Document):
    """The source of a segment's samples: everything needed to generate or read them again."""

    kind: SourceKind
    seed: int = Field(default=0, ge=0, lt=2**63)
    offset: int = Field(default=0, ge=0, lt=2**62, description="index of the first sample")
    anomaly_percent: float | None = Field(default=None, ge=0, le=100)
    file_sha256: Sha256 | None = None


class ShardRef(Document):
    """A shard of a segment: its digest and its number of samples."""

    sha256: Sha256
    samples: int = Field(gt=0, le=MAX_SAMPLES)


class Segment(Document):
    """A section of the plan. Its numbers are fixed by its first PUT.

    Its list of shards only grows.
    """

    samples: int = Field(gt=0, le=MAX_SAMPLES)
    batch_size: int = Field(gt=0, le=MAX_BATCH_SIZE)
    epochs: int = Field(default=1, gt=0, le=MAX_EPOCHS)
    order_seed: int = Field(default=0, ge=0, lt=2**63)
    source: Source
    samples_type: SamplesType = Field(
        default="float32",
        exclude_if=lambda value: value == "float32",  # digests of plans without it stay the same
        description="of float32 inputs in the shards; float16 only because the user chose it",
    )
    micro_batch: int | None = Field(
        default=None,
        gt=0,
        le=MAX_BATCH_SIZE,
        exclude_if=lambda value: value is None,
        description="samples of a batch that are computed at a time; null for the whole batch",
    )
    shards: Annotated[tuple[ShardRef, ...], Field(max_length=MAX_SHARDS_PER_REQUEST)] = ()

    @model_validator(mode="after")
    def _shards_fit(self) -> Self:
        listed = self.listed_samples
        if listed > self.samples:
            raise ValueError(
                _("the shards have {listed} samples, the segment has {samples}").format(
                    listed=listed, samples=self.samples
                )
            )
        return self

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch; the last batch is kept, short."""
        return -(-self.samples // self.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps in the whole segment."""
        return self.steps_per_epoch * self.epochs

    @property
    def listed_samples(self) -> int:
        """Samples in the shards listed so far."""
        return sum(shard.samples for shard in self.shards)

    @property
    def is_whole(self) -> bool:
        """Whether the list of shards covers every sample."""
        return self.listed_samples == self.samples

    def numbers(self) -> Self:
        """Return the segment without its list of shards: what its first PUT fixed."""
        return self.model_copy(update={"shards": ()})

    def is_extension_of(self, other: "Segment") -> bool:
        """Whether this segment has `other`'s numbers and a list that begins with `other`'s."""
        same_start = self.shards[: len(other.shards)] == other.shards
        return same_start and self.numbers() == other.numbers()


class PutSegment(Request):
    """Adds segment k to the plan, or extends its list of shards."""

    run_id: RunId
    segment: Segment


class Plan(Reply):
    """A run's segments, in order."""

    run: str
    id: RunId
    segments: tuple[Segment, ...]


class SegmentStored(RunSummary):
    """The segment is in the plan, on disk; `missing` has its shards that the server lacks."""

    missing: list[Sha256] = Field(description="listed shards not on the server; at most 1000")


def check_batch_bytes(segment: Segment, schema: Schema) -> None:
    """Check that a batch of a segment is not too large for memory. Raises InvalidRequest."""
    size = min(segment.batch_size, segment.samples) * schema.sample_bytes
    if size > MAX_BATCH_BYTES:
        raise InvalidRequest(
            _("a batch of {samples} samples has {size} bytes, the limit is {most}").format(
                samples=segment.batch_size, size=size, most=MAX_BATCH_BYTES
            ),
            hint=_("make it smaller with --batch-size"),
        )


def plan_steps(segments: Sequence[Segment]) -> int:
    """Count the steps of a plan."""
    return sum(segment.steps for segment in segments)


def plan_sha256(segments: Sequence[Segment]) -> str:
    """Digest a plan, lists of shards included."""
    return documents_sha256(segment.model_dump_json() for segment in segments)


class PlanIndex:
    """Finds the segment of a step; rebuilt when a segment is added."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.first_steps: list[int] = []
        self.steps = 0
        for segment in segments:
            self.first_steps.append(self.steps + 1)
            self.steps += segment.steps

    def locate(self, step: int) -> tuple[int, int]:
        """Return (segment number, step within it from 0) of a 1-based `step` of the plan."""
        number = bisect_right(self.first_steps, step) - 1
        return number, step - self.first_steps[number]
