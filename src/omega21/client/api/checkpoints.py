"""Checkpoints of a run: download, upload in parts, restore."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import httpx

from omega21.client.api.endpoint import Endpoint, run_path
from omega21.client.http.transport import Request, Sink
from omega21.protocol.checkpoints import CheckpointStored, RestoreCheckpoint
from omega21.protocol.runs import RunState


@dataclass(frozen=True, kw_only=True, slots=True)
class Rest:
    """The rest of a checkpoint to download: its step, its digest, the first missing byte."""

    step: int
    sha256: str
    start: int


class Checkpoints(Endpoint):
    """Calls about checkpoints."""

    async def download(
        self,
        run: str,
        sink: Sink,
        *,
        part: Literal["full", "weights"],
        rest: Callable[[], Rest | None] = lambda: None,
    ) -> httpx.Headers:
        """Write a run's newest checkpoint, or its weights alone, to `sink`; return the headers.

        `rest` is called before each attempt and returns what to request; without it, everything.
        Raises UnknownCheckpoint.
        """
        path = f"{run_path(run)}/checkpoint"

        def make_request() -> Request:
            query: dict[str, str | int] = {"part": part}
            headers = {"Accept-Encoding": "identity"}
            if (wanted := rest()) is not None:
                query["step"] = wanted.step
                headers["Range"] = f"bytes={wanted.start}-"
                headers["If-Range"] = f'"{wanted.sha256}"'
            return Request(method="GET", path=path, query=query, headers=headers)

        return await self._transport.download(make_request, sink)

    async def put_part(self, run: str, sha256: str, body: bytes) -> CheckpointStored:
        """Upload a part of a checkpoint, at most 8 MB; on the server's disk when it returns.

        Raises InvalidCheckpoint, StorageFull.
        """
        path = f"{run_path(run)}/checkpoint/parts/{sha256}"
        headers = {"Content-Type": "application/octet-stream"}
        return await self._call(CheckpointStored, "PUT", path, headers=headers, body=body)

    async def restore(self, run: str, request: RestoreCheckpoint) -> RunState:
        """Continue a run from a checkpoint whose parts are on the server.

        On the server's disk when it returns. Raises InvalidCheckpoint, Conflict when the run is
        beyond its step, OtherRun.
        """
        return await self._call(RunState, "PUT", f"{run_path(run)}/checkpoint", body=request)
