"""The traffic of a training, estimated before it starts.

Most of it is samples: a few of them are encoded, and the size of all is extrapolated. The other
values were measured with the real codec and calls: docs/tunnel-limits.md.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from omega21.client.http.link import REMOTE
from omega21.client.request.data import Files
from omega21.client.request.sources import open_source
from omega21.client.training.checkpoint_restore import ASSUMED_SECONDS_PER_STEP
from omega21.client.training.options import Pull
from omega21.data.samples import as_type
from omega21.protocol.inference import MAX_SHARDS_TO_COMPUTE
from omega21.protocol.plan import SamplesType, Segment
from omega21.protocol.runs import RunConfig
from omega21.protocol.shards import encode_shard, samples_per_shard
from omega21.protocol.steps import MAX_WAIT_SECONDS

_REQUEST_BYTES: Final = 1100  # headers of a request and its reply, a token among them
_ROW_BYTES: Final = 50  # of one step's result, in gzip among others
_LIST_BYTES: Final = 200  # of a shard in the lists of a segment, which go up a few times
_SCORE_BYTES: Final = 4
_STATUS_BYTES: Final = 400  # of a status, beside its headers
_PARAMETER_BYTES: Final = 12  # in a checkpoint: the weight and its two moments, in float32
_FIXED_REQUESTS: Final = 15
_PULL_REQUESTS: Final = 4
_MEASURED_SHARDS: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Choices that reduce traffic: the samples' type, downloads, the polling interval."""

    samples_type: SamplesType = "float32"
    pull: Pull = "never"
    gather: float = REMOTE.gather_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Needed:
    """Bytes in both directions and requests of a training, estimated, headers included."""

    samples: int
    results: int
    checkpoints: int
    requests: int

    @property
    def bytes(self) -> int:
        """All bytes."""
        return self.samples + self.results + self.checkpoints + self.requests * _REQUEST_BYTES


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The properties of a training that decide its traffic.

    `samples` are still to go up; `uplink` is in bytes a second. Where that, or the seconds of a
    step, is not known yet, it is assumed as when a run is restored. `evaluations` are at most made
    on the way, beside the one at the end.
    """

    segment: Segment
    config: RunConfig
    files: Files = field(default_factory=dict)
    samples: int
    steps: int
    validation: int
    parameters: int = 0
    evaluations: int = 0
    seconds_per_step: float | None = None
    uplink: float | None = None
    _sample_bytes: dict[SamplesType, float] = field(default_factory=dict)

    def needed(self, choice: Choice) -> Needed:
        """Estimate the traffic of a choice.

        Raises InvalidSamples for a type that cannot hold it.
        """
        bytes_each = self._bytes_of_a_sample(choice.samples_type)
        size = samples_per_shard(self.config.sample_schema)
        shards, held_out = math.ceil(self.samples / size), math.ceil(self.validation / size)
        samples = round(bytes_each * (self.samples + self.validation))
        pace = self.seconds_per_step or ASSUMED_SECONDS_PER_STEP
        seconds = max(self.steps * pace, samples / REMOTE.upload_rate(self.uplink))
        # A reply comes when it has gathered, and none waits for longer than the longest poll.
        polls = math.ceil(seconds / min(choice.gather, MAX_WAIT_SECONDS))
        groups = math.ceil(held_out / MAX_SHARDS_TO_COMPUTE)
        on_the_way = min(self.evaluations, math.ceil(seconds)) if groups else 0
        questions = 2 * groups + 1 + 3 * on_the_way  # each is recorded on the server too
        some = min(self.validation, MAX_SHARDS_TO_COMPUTE * size)
        scores = self.validation + on_the_way * some
        pulls = _pulls(choice.pull, seconds)
        status_polls = math.ceil(seconds / REMOTE.poll_seconds)
        lists = _LIST_BYTES * shards
        return Needed(
            samples=samples,
            results=self.steps * _ROW_BYTES
            + scores * _SCORE_BYTES
            + lists
            + status_polls * _STATUS_BYTES,
            checkpoints=pulls * self.parameters * _PARAMETER_BYTES,
            requests=sum(
                (
                    _FIXED_REQUESTS,
                    shards,
                    held_out,
                    questions,
                    polls,
                    status_polls,
                    pulls * _PULL_REQUESTS,
                )
            ),
        )

    def _bytes_of_a_sample(self, samples_type: SamplesType) -> float:
        if samples_type not in self._sample_bytes:
            schema = self.config.sample_schema
            size = samples_per_shard(schema)
            count = min(self.segment.samples, _MEASURED_SHARDS * size)
            few = self.segment.model_copy(update={"samples": count, "shards": ()})
            source = open_source(few, self.files, config=self.config)
            total = 0
            for start in range(0, count, size):
                block = source.block(start, min(start + size, count))
                total += len(encode_shard(as_type(block, samples_type, schema=schema)))
            self._sample_bytes[samples_type] = total / count
        return self._sample_bytes[samples_type]


def _pulls(pull: Pull, seconds: float) -> int:
    if isinstance(pull, float):
        return math.floor(seconds / pull) + 1
    return 1 if pull == "end" else 0
