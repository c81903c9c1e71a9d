"""Inference requests: they compute with a run's weights and change nothing."""

from pydantic import Field

from omega21.protocol.messages import Request
from omega21.protocol.names import Sha256

MAX_SHARDS_TO_COMPUTE = 8
"""Maximum number of shards in one request: it bounds how long training waits."""


MAX_OUTPUT_BYTES = 64 * 2**20
"""Maximum size of the outputs in one reply, decompressed, in bytes."""


class ComputeRequest(Request):
    """Names the shards to compute outputs or scores for, in order.

    `predict` needs the inputs alone; `evaluate` needs the targets too.
    """

    shards: list[Sha256] = Field(min_length=1, max_length=MAX_SHARDS_TO_COMPUTE)
