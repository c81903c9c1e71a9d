"""Saving a run's weights on this machine."""

from dataclasses import dataclass
from pathlib import Path

import anyio
from safetensors.numpy import load

from omega21.client.transport import Call, Transport
from omega21.data.durable import write_durably
from omega21.language import _
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import NotOmega21


@dataclass(frozen=True, slots=True)
class SavedWeights:
    """Weights in a safetensors file: of which step, and their digest over tensors."""

    path: Path
    step: int
    sha256: str


async def download_weights(transport: Transport, run: str, *, path: Path) -> SavedWeights:
    """Save the weights after the last step applied; checked and on disk when it returns.

    Raises NotOmega21 when what arrives does not have the digest that it came with.
    """
    query = {"part": "weights"}
    answer = await transport.send(Call(method="GET", path=f"/runs/{run}/checkpoint", query=query))
    step = answer.headers.get("Omega21-Step", "")
    named = answer.headers.get("ETag", "").strip('"')
    found = await anyio.to_thread.run_sync(_digest, answer.body)
    if not step.isdecimal() or found != named:
        raise NotOmega21(
            _("the weights have the digest {found}, the server named {named!r}").format(
                found=found, named=named
            )
        )
    await anyio.to_thread.run_sync(write_durably, path, answer.body)
    return SavedWeights(path, int(step), found)


def _digest(body: bytes) -> str:
    return tensors_sha256(load(body))
