"""Inference with a run's weights: outputs and scores of given shards; changes nothing."""

from typing import Annotated

import zstandard
from fastapi import APIRouter, Request, Response

from omega21.engine.engine import Engine
from omega21.protocol.errors import (
    BodyTooLarge,
    InvalidSamples,
    OutOfDeviceMemory,
    UnknownRun,
    UnknownShard,
    UnsupportedEncoding,
)
from omega21.protocol.inference import ComputeRequest
from omega21.protocol.names import RunName
from omega21.protocol.shards import ENCODING, SHARD_MEDIA_TYPE, pack
from omega21.protocol.steps import EvaluateReply
from omega21.server.http.bodies import MessageRoute
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import body, reply, tensors_reply
from omega21.server.services import ServicesHere

router = APIRouter(tags=["compute"], route_class=MessageRoute)

STEP_HEADER = "Omega21-Step"

_PROBLEMS = problems(
    UnknownRun, UnknownShard, InvalidSamples, OutOfDeviceMemory, BodyTooLarge, UnsupportedEncoding
)


@router.post(
    "/runs/{run}/predict",
    response_class=Response,
    responses=tensors_reply("the task's predictions by name, each [n, …]") | _PROBLEMS,
)
async def predict(
    request: Request,
    services: ServicesHere,
    *,
    run: RunName,
    asked: Annotated[ComputeRequest, body(examples.COMPUTE)],
) -> Response:
    """Compute the model's outputs for the samples of the shards, in order.

    The header `Omega21-Step` names the step whose weights were used.
    """
    compressed = ENCODING in request.headers.get("accept-encoding", "")
    return await services.compute.run(
        _predict, services.engine, run, shards=asked.shards, compressed=compressed
    )


def _predict(engine: Engine, run: str, *, shards: list[str], compressed: bool) -> Response:
    step, outputs = engine.inference.predict(run, shards)
    content = pack(outputs, {"step": str(step)})
    headers = {STEP_HEADER: str(step), "Vary": "Accept-Encoding"}
    if compressed:
        content = zstandard.ZstdCompressor(level=1).compress(content)
        headers["Content-Encoding"] = ENCODING
    return Response(content, headers=headers, media_type=SHARD_MEDIA_TYPE)


@router.post("/runs/{run}/evaluate", responses=reply(examples.EVALUATE_REPLY) | _PROBLEMS)
async def evaluate(
    services: ServicesHere,
    run: RunName,
    asked: Annotated[ComputeRequest, body(examples.COMPUTE)],
) -> EvaluateReply:
    """Compute the scores of the shards' samples, and their mean loss."""
    return await services.compute.run(services.engine.inference.evaluate, run, asked.shards)
