"""The check of a task on the server, before its samples are uploaded."""

from typing import Final

from pydantic import Field

from omega21.protocol.messages import Reply, Request
from omega21.protocol.names import Sha256
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import TensorSpec

MAX_PROBE_SAMPLES: Final = 8


class ProbeRequest(Request):
    """Asks to build a run's model and to train it on the samples of a small shard; no run is made.

    The shard is uploaded before, as every other.
    """

    config: RunConfig
    shard: Sha256


class ProbeFound(Reply):
    """What the server found: the task can be trained there."""

    parameters: int
    trained_parameters: int
    loss: float = Field(description="of the samples, before the first update")
    metrics: dict[str, float]
    predictions: dict[str, TensorSpec] = Field(description="of one sample, by name")
    differs: str | None = Field(
        default=None, description="the first value that differed when the same step was repeated"
    )
    alone: str | None = Field(
        default=None, description="why a batch of one sample cannot be trained, if it cannot"
    )
    torch_version: str
    python_version: str


class ProbeReply(Reply):
    """The end of a check, or that it is still under way: then the same request waits for it."""

    found: ProbeFound | None = Field(default=None, description="null while it is under way")
