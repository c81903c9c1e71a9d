"""A run's state as a file: download, upload in parts, restore."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated, Literal

import anyio
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from omega21.engine.engine import Engine
from omega21.language import _
from omega21.protocol.checkpoints import UPLOAD_PART_BYTES, CheckpointStored, RestoreCheckpoint
from omega21.protocol.errors import (
    BodyTooLarge,
    Conflict,
    InvalidCheckpoint,
    InvalidRequest,
    OtherRun,
    RunDeleted,
    StorageFull,
    UnknownCheckpoint,
    UnknownRun,
    UnsupportedEncoding,
)
from omega21.protocol.names import RunName, Sha256
from omega21.protocol.runs import RunState
from omega21.protocol.shards import SHARD_MEDIA_TYPE, pack
from omega21.server.http.bodies import MessageRoute, is_compressed, media_type, read_body
from omega21.server.http.errors import problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import body, reply, tensors_reply
from omega21.server.routes.inference import STEP_HEADER
from omega21.server.services import ServicesHere

router = APIRouter(tags=["checkpoint"], route_class=MessageRoute)

UPLOAD_PART_MEDIA_TYPE = "application/octet-stream"

Part = Annotated[
    Literal["full", "weights"],
    Query(
        description="`full`: a checkpoint on disk, all that later steps depend on; `weights`: the "
        "model's tensors alone, after the last step applied"
    ),
]
Step = Annotated[
    int | None, Query(ge=0, description="the checkpoint of this step; by default the newest")
]


@router.get(
    "/runs/{run}/checkpoint",
    response_class=Response,
    responses=tensors_reply("a checkpoint, or the weights by the model's names of them")
    | problems(UnknownRun, UnknownCheckpoint),
)
async def get_checkpoint(
    services: ServicesHere, run: RunName, *, part: Part = "full", step: Step = None
) -> Response:
    """Download a run's state; a checkpoint in ranges too.

    The header `Omega21-Step` names the step. The ETag is the digest of the file, or of the weights;
    an interrupted download continues with `Range` and `If-Range`. A checkpoint that is being
    downloaded is kept until 15 minutes after the last request for it.
    """
    if part == "weights":
        if step is not None:
            raise InvalidRequest(
                _("`step` goes with part=full: weights are those of the last step")
            )
        return await services.compute.run(_weights, services.engine, run)
    return await services.compute.run(_checkpoint, services.engine, run, step=step)


def _weights(engine: Engine, run: str) -> Response:
    step, weights, sha256 = engine.inference.weights(run)
    content = pack(weights, {"run": run, "step": str(step), "part": "weights"})
    headers = {STEP_HEADER: str(step), "ETag": f'"{sha256}"'}
    return Response(content, headers=headers, media_type=SHARD_MEDIA_TYPE)


def _checkpoint(engine: Engine, run: str, *, step: int | None) -> Response:
    while True:
        checkpoint = engine.checkpoints.newest(run, step=step)
        headers = {STEP_HEADER: str(checkpoint.step), "ETag": f'"{checkpoint.sha256}"'}
        try:
            return OpenFile(checkpoint.path, headers=headers, media_type=SHARD_MEDIA_TYPE)
        except (
            FileNotFoundError
        ):  # removed or replaced in between: the next request does not find it
            continue


class OpenFile(FileResponse):
    """An open file, whose content stays the same if its name is removed or replaced."""

    def __init__(self, path: FilePath, *, headers: dict[str, str], media_type: str) -> None:
        self._file = path.open("rb")
        found = os.fstat(self._file.fileno())
        super().__init__(path, headers=headers, media_type=media_type, stat_result=found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file or a range of it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()

    @asynccontextmanager
    async def _open_file(self) -> "AsyncIterator[anyio.AsyncFile[bytes]]":
        yield anyio.wrap_file(self._file)


@router.put(
    "/runs/{run}/checkpoint/parts/{sha256}",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                UPLOAD_PART_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
    responses=reply(examples.PART_STORED)
    | problems(UnknownRun, InvalidCheckpoint, BodyTooLarge, UnsupportedEncoding, StorageFull),
)
async def put_upload_part(
    request: Request,
    services: ServicesHere,
    *,
    run: RunName,
    sha256: Annotated[Sha256, Path(description="SHA-256 of the part's bytes")],
) -> CheckpointStored:
    """Store a part of a checkpoint's file, at most 8 MB; the same again changes nothing."""
    services.uploads.check_room()
    services.engine.runs.summary(run)
    media_type(request, UPLOAD_PART_MEDIA_TYPE)
    is_compressed(request, allowed=False)
    part = await read_body(request, limit=UPLOAD_PART_BYTES)
    return await services.uploads.run(services.engine.checkpoints.put_upload_part, sha256, part)


@router.put(
    "/runs/{run}/checkpoint",
    responses=reply(examples.RUN_STATE)
    | problems(
        UnknownRun, OtherRun, RunDeleted, InvalidCheckpoint, Conflict, StorageFull, BodyTooLarge
    ),
)
async def restore_checkpoint(
    services: ServicesHere,
    run: RunName,
    restore: Annotated[RestoreCheckpoint, body(examples.RESTORE_CHECKPOINT)],
) -> RunState:
    """Go on from a checkpoint whose parts are here; only where it goes past the run's step."""
    return await services.compute.run(services.engine.checkpoints.restore, run, restore)
