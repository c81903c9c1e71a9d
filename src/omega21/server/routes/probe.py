"""The check of a task before its samples are uploaded."""

from typing import Annotated

from fastapi import APIRouter

from omega21.protocol.errors import (
    BodyTooLarge,
    CodeNotAllowed,
    ImportFailed,
    InstallFailed,
    InvalidSamples,
    OutOfDeviceMemory,
    TaskFailed,
    UnknownCode,
    UnknownShard,
    UnsupportedEncoding,
)
from omega21.protocol.steps import MAX_WAIT_SECONDS
from omega21.protocol.tasks.probe import ProbeReply, ProbeRequest
from omega21.server.http.bodies import MessageRoute
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import body, reply
from omega21.server.services import ServicesHere

router = APIRouter(tags=["compute"], route_class=MessageRoute)


@router.post(
    "/probe",
    responses=reply(examples.PROBE_REPLY)
    | problems(
        CodeNotAllowed,
        UnknownCode,
        InstallFailed,
        TaskFailed,
        ImportFailed,
        UnknownShard,
        InvalidSamples,
        OutOfDeviceMemory,
        BodyTooLarge,
        UnsupportedEncoding,
    ),
)
async def probe(
    services: ServicesHere, asked: Annotated[ProbeRequest, body(examples.PROBE_REQUEST)]
) -> ProbeReply:
    """Build a run's model and train it on the samples of a small shard; makes no run.

    Where that takes longer than a request may, `found` is null; the same request waits on.
    """
    return await services.compute.run(
        services.engine.probe.probe, asked.config, asked.shard, wait=MAX_WAIT_SECONDS
    )
