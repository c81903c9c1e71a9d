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
from omega21.client.store.run_folder import RunFolder
from omega21.client.training.upload import is_shard
from omega21.language import _
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import ImportFailed, TaskFailed
from omega21.protocol.plan import Segment
from omega21.protocol.runs import RunConfig
from omega21.protocol.shards import Tensors, decode_shard, encode_shard
from omega21.protocol.tasks.probe import ProbeFound
from omega21.protocol.tasks.task import CodeTask

_SAMPLES: Final = 2


Emit = Callable[[Event], Awaitable[None]]


async def check_task(
    api: Api, config: RunConfig, segment: Segment, *, files: Files, emit: Emit
) -> None:
    """Have the server build and train the user's own task on the first samples of a segment.

    Nothing for a built-in task. Raises TaskFailed, ImportFailed; no run is made.
    """
    if isinstance(config.task, CodeTask):
        samples = await run_sync(_read_first, segment, files, config)
        await _check(api, config, segment, samples=samples, emit=emit)


async def check_moved_task(api: Api, folder: RunFolder, *, emit: Emit) -> None:
    """Check the task of a run as `check_task` does, on a server that does not have the run.

    Nothing where the folder no longer has the first shard: all of its samples may be trained.
    """
    config = folder.record.config
    if isinstance(config.task, CodeTask) and folder.segments:
        samples = await run_sync(_read_first_shard, folder)
        if samples is not None:
            await _check(api, config, folder.segments[-1], samples=samples, emit=emit)


async def _check(
    api: Api, config: RunConfig, segment: Segment, *, samples: Tensors, emit: Emit
) -> None:
    sha256, body = tensors_sha256(samples), await run_sync(encode_shard, samples)
    await api.shards.put(sha256, body)
    try:
        found = await _found(api, config, sha256, emit=emit)
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


async def _found(api: Api, config: RunConfig, sha256: str, *, emit: Emit) -> ProbeFound:
    """Wait for what the server finds; say once that it takes long."""
    is_told = False
    while (found := (await api.probe.run(config, shard=sha256)).found) is None:
        if not is_told:
            await emit(Notice(_("the server is still building the model and its first step")))
            is_told = True
    return found


def _read_first(segment: Segment, files: Files, config: RunConfig) -> Tensors:
    source = open_source(segment, files, config=config)
    return source.block(0, min(_SAMPLES, segment.samples))


def _read_first_shard(folder: RunFolder) -> Tensors | None:
    """Return the first samples of the run's first shard, in the schema's types."""
    shards = folder.segments[0].shards
    body = folder.shard(shards[0].sha256) if shards else None
    if body is None or not is_shard(body, shards[0].sha256):
        return None
    tensors, specs = decode_shard(body), folder.record.config.sample_schema.tensors
    return {name: tensors[name][:_SAMPLES].astype(spec.numpy_type) for name, spec in specs.items()}


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
