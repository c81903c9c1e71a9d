"""Checkpoints: everything that later steps depend on, in one safetensors file.

The file holds weights, optimizer state and the precision scaler; its metadata holds the record
that identifies the run and the step. It is uploaded in parts named by their content, followed by
a list of them, since tunnels limit bodies to 100 MB.
"""

from collections.abc import Sequence

from pydantic import Field, ValidationError

from omega21.language import _
from omega21.protocol.digests import documents_sha256
from omega21.protocol.errors import InvalidCheckpoint, InvalidShard
from omega21.protocol.messages import Document, Reply, Request
from omega21.protocol.names import RunId, Sha256
from omega21.protocol.plan import PlanIndex, Segment
from omega21.protocol.runs import Environment, RunConfig
from omega21.protocol.shards import TensorSpan, read_header

CHECKPOINT_FORMAT = 1
RECORD_KEY = "omega21.checkpoint"
"""Key of the record in the file's metadata."""

UPLOAD_PART_BYTES = 8 * 2**20
"""Maximum size of an upload part, in bytes."""

MAX_CHECKPOINT_BYTES = 4 * 2**30
MAX_HEADER_BYTES = 2**20
MAX_TENSORS = 10_000
KEEP_WHILE_PULLED_SECONDS = 15 * 60.0
"""How long the server keeps a checkpoint that is being downloaded, after its last range request."""


class CheckpointRecord(Document):
    """The run and the step of a checkpoint."""

    format: int = CHECKPOINT_FORMAT
    run_id: RunId
    config: RunConfig
    step: int = Field(ge=0)
    digest: str = Field(description="chained over the results up to `step`")
    non_finite_in_a_row: int = Field(ge=0)
    plan_sha256: Sha256 = Field(description="of the plan up to `step`")
    weights_sha256: Sha256
    environment: Environment | None = Field(
        description="the conditions under which the step was computed"
    )
    created_at: float = Field(description="seconds since 1970")


class CheckpointStored(Reply):
    """The upload part is on the server's disk."""

    sha256: Sha256
    bytes: int


class RestoreCheckpoint(Request):
    """Assembles a checkpoint from its upload parts and continues the run from it."""

    run_id: RunId
    sha256: Sha256 = Field(description="of the whole file")
    bytes: int = Field(gt=0, le=MAX_CHECKPOINT_BYTES)
    parts: list[Sha256] = Field(min_length=1, max_length=MAX_CHECKPOINT_BYTES // UPLOAD_PART_BYTES)


def trained_plan_sha256(segments: Sequence[Segment], step: int) -> str:
    """Digest the part of a plan that steps up to `step` have used.

    A finished segment is included with its list of shards, an unfinished one with its numbers
    only, since its list may still grow.
    """
    index = PlanIndex(segments)
    texts = []
    for first, segment in zip(index.first_steps, segments, strict=True):
        if first > step:
            break
        whole = first + segment.steps - 1 <= step
        texts.append((segment if whole else segment.numbers()).model_dump_json())
    return documents_sha256(texts)


def read_checkpoint_header(
    start: bytes, total: int
) -> tuple[dict[str, TensorSpan], CheckpointRecord]:
    """Read the spans and the record of a checkpoint's file. Raises InvalidCheckpoint."""
    try:
        spans, metadata = read_header(
            start, total, max_header=MAX_HEADER_BYTES, max_tensors=MAX_TENSORS
        )
        record = CheckpointRecord.parse_lenient(metadata.get(RECORD_KEY, ""))
    except InvalidShard as error:
        raise InvalidCheckpoint(error.message) from error
    except ValidationError as error:
        raise InvalidCheckpoint(_("it has no record of a checkpoint")) from error
    if record.format != CHECKPOINT_FORMAT:
        raise InvalidCheckpoint(
            _("it has format {found}, this omega21 reads {known}").format(
                found=record.format, known=CHECKPOINT_FORMAT
            ),
            hint=_("use the version of omega21 that wrote it"),
        )
    return spans, record
