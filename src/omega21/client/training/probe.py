"""The check of the user's own task on the server, before the run's samples are uploaded."""

import platform
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from anyio.to_thread import run_sync

from omega21.client.api.api import Api
from omega21.client.events import Event, Notice
from omega21.client.request.data import Files
from omega21.client.request.sources import open_source
from omega21.language import _
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import ImportFailed, TaskFailed
from omega21.protocol.plan import Segment
from omega21.protocol.probe import ProbeReply
from omega21.protocol.runs import RunConfig
from omega21.protocol.shards import encode_shard
from omega21.protocol.tasks import CodeTask

_SAMPLES: Final = 2


async def check_task(
    api: Api,
    config: RunConfig,
    segment: Segment,
    *,
    files: Files,
    emit: Callable[[Event], Awaitable[None]],
) -> ProbeReply | None:
    """Have the server build and train the task on the first samples of a segment.

    None for a built-in task, which is not checked. Raises TaskFailed, ImportFailed; no run is made.
    """
    if not isinstance(config.task, CodeTask):
        return None
    sha256, body = await run_sync(_encode_first, segment, files, config)
    await api.shards.put(sha256, body)
    try:
        found = await api.probe.run(config, shard=sha256)
    except ImportFailed as error:
        raise ImportFailed(
            _("{message}; this machine has {versions}").format(
                message=error.message, versions=_versions()
            ),
            hint="",
        ) from error
    if found.alone is not None and 1 in _batch_sizes(segment):
        raise TaskFailed(
            _("a batch of one sample cannot be trained: {reason}").format(reason=found.alone),
            hint=_("choose a --batch-size whose last batch has more samples, or fewer --samples"),
        )
    if found.differs is not None:
        await emit(
            Notice(
                _(
                    "step 1 does not repeat: {name} differs the second time; after a restart "
                    "results may differ, and the run's log says so"
                ).format(name=found.differs)
            )
        )
    return found


def _encode_first(segment: Segment, files: Files, config: RunConfig) -> tuple[str, bytes]:
    source = open_source(segment, files, config=config)
    tensors = source.block(0, min(_SAMPLES, segment.samples))
    return tensors_sha256(tensors), encode_shard(tensors)


def _batch_sizes(segment: Segment) -> set[int]:
    """Return how many samples are computed at a time: in whole batches, and in the last one."""
    batches = {min(segment.batch_size, segment.samples), segment.samples % segment.batch_size}
    if segment.micro_batch is None:
        return batches
    part = segment.micro_batch
    return {size for batch in batches for size in (min(part, batch), batch % part)}


def _versions() -> str:
    """Return the versions of Python, and of torch and numpy where they are installed."""
    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "numpy"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(_("no {name}").format(name=name))
    return ", ".join(found)
