"""Saves a run's weights on this machine."""

import os
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import anyio
import httpx
import numpy as np

from omega21.client.api.api import Api
from omega21.client.http.decoding import announced_bytes, check_room, step_of, too_long
from omega21.data.durable import naming, open_private, put_in_place, sync_file
from omega21.language import _
from omega21.protocol.checkpoints import MAX_HEADER_BYTES, MAX_TENSORS
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import InvalidCheckpoint, InvalidShard, NotOmega21
from omega21.protocol.printable import printable
from omega21.protocol.shards import read_header


@dataclass(frozen=True, slots=True)
class SavedWeights:
    """Weights in a safetensors file: their step and the digest of their tensors."""

    path: Path
    step: int
    sha256: str


async def download_weights(api: Api, run: str, *, path: Path) -> SavedWeights:
    """Save the weights after the last step applied; checked and on disk when it returns.

    Raises NotOmega21 when the file does not match its announced digest, and InvalidCheckpoint when
    it has no weights.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with closing(_Arriving(temporary)) as arriving:
            headers = await api.checkpoints.download(run, arriving, part="weights")
        step = step_of(headers)
        found = await anyio.to_thread.run_sync(tensors_sha256_of, temporary)
        named = headers.get("ETag", "").strip('"')
        if step is None or found != named:
            raise NotOmega21(
                _("the weights have the digest {found}, the server named {named!r}").format(
                    found=found, named=printable(named, most=80)
                )
            )
        await anyio.to_thread.run_sync(put_in_place, temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return SavedWeights(path, step, found)


class _Arriving:
    """The sink of a download that starts again after an interruption."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._left = 0

    def begin(self, _status: int, headers: httpx.Headers) -> None:
        self.close()
        self._left = announced_bytes(headers)
        check_room(self._path.parent, self._left)
        self._file = open_private(self._path, "wb")

    def write(self, chunk: bytes) -> None:
        assert self._file is not None
        self._left -= len(chunk)
        if self._left < 0:
            raise too_long()
        with naming(self._path):
            self._file.write(chunk)

    def close(self) -> None:
        if self._file is not None:
            with naming(self._path), self._file:
                sync_file(self._file)
            self._file = None


def tensors_sha256_of(path: Path) -> str:
    """Digest the tensors of a safetensors file, in chunks. Raises InvalidCheckpoint."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(MAX_HEADER_BYTES + 8)
    try:
        spans, _metadata = read_header(
            start, size, max_header=MAX_HEADER_BYTES, max_tensors=MAX_TENSORS
        )
    except InvalidShard as error:
        raise InvalidCheckpoint(
            _("the weights cannot be read: {why}").format(why=printable(error.message)),
            hint=_("they were discarded; check the server and any proxy in between"),
        ) from error
    return tensors_sha256(
        {
            name: np.memmap(path, span.dtype, "r", offset=span.offset, shape=span.shape)
            if span.nbytes
            else np.empty(span.shape, span.dtype)
            for name, span in spans.items()
        }
    )
