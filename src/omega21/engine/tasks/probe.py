"""The check of a task before its samples are uploaded; it makes no run."""

import threading
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.tasks.code import Code
from omega21.executors.base import Batch, Device, DeviceMemoryExhausted, ExecutorDied
from omega21.language import _
from omega21.models.registry import check_config
from omega21.protocol.errors import InvalidSamples, OutOfDeviceMemory, Overloaded, TaskFailed
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema
from omega21.protocol.tasks.probe import MAX_PROBE_SAMPLES, ProbeFound, ProbeReply

MOST_PROBES: Final = 4
"""Checks that are under way at once."""

_Key = tuple[str, str]


@dataclass(frozen=True)
class Probe:
    """Builds and trains a task on a few samples, on the device where its run would be."""

    folder: DataFolder
    device: Device
    code: Code
    _under_way: dict[_Key, "Future[ProbeFound]"] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def probe(self, config: RunConfig, shard: str, *, wait: float) -> ProbeReply:
        """Check a run's task on the samples of a small shard; wait at most so many seconds.

        A check that is under way goes on, and the same call waits for it. Raises CodeNotAllowed,
        UnknownCode, InstallFailed, TaskFailed, UnknownShard, InvalidSamples, OutOfDeviceMemory,
        Overloaded.
        """
        key = (config.model_dump_json(), shard)
        with self._guard:
            future = self._under_way.get(key) or self._start(key, config, shard)
        try:
            return ProbeReply(found=future.result(wait))
        except TimeoutError:
            return ProbeReply()
        finally:
            if future.done():
                with self._guard:
                    self._under_way.pop(key, None)

    def _start(self, key: _Key, config: RunConfig, shard: str) -> "Future[ProbeFound]":
        """Start a check in a thread of its own; drop those that ended with nobody waiting."""
        for other in [other for other, future in self._under_way.items() if future.done()]:
            del self._under_way[other]
        if len(self._under_way) >= MOST_PROBES:
            raise Overloaded(
                _("this server checks {count} models, its maximum").format(count=MOST_PROBES),
                retry_after=5,
            )
        future = self._under_way[key] = Future[ProbeFound]()
        context = copy_context()  # the language of the request, and its log context

        def check() -> None:
            try:
                future.set_result(context.run(self._check, config, shard))
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
                future.set_exception(error)

        threading.Thread(target=check, name="omega21-probe", daemon=True).start()
        return future

    def _check(self, config: RunConfig, shard: str) -> ProbeFound:
        checked = check_config(config)
        self.code.prepare(checked.task)
        batch = self._read(shard, checked.sample_schema)
        try:
            return self.device.probe(checked, batch)
        except ExecutorDied as error:
            raise TaskFailed(
                _("the model ended its process while it was checked: {how}").format(how=error.how),
                hint=error.last_lines,
            ) from error
        except DeviceMemoryExhausted as error:
            raise OutOfDeviceMemory(
                _("the model does not fit in the device's free memory")
            ) from error

    def _read(self, sha256: str, schema: Schema) -> Batch:
        shard = self.folder.shards.open(sha256)
        if shard.samples > MAX_PROBE_SAMPLES:
            raise InvalidSamples(
                _("a probe takes at most {most} samples, got {samples}").format(
                    most=MAX_PROBE_SAMPLES, samples=shard.samples
                )
            )
        batch = {name: shard.read(name) for name in schema.tensors if name in shard.spans}
        for name, spec in schema.tensors.items():
            found = batch.get(name)
            if found is None or found.shape[1:] != spec.shape or found.dtype != spec.numpy_type:
                raise InvalidSamples(
                    _("shard {sha256}: tensor {name} is {found}, expected {expected}").format(
                        sha256=sha256[:12], name=name, found=_describe(found), expected=spec
                    )
                )
        return batch


def _describe(array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None") -> str:
    return "-" if array is None else f"{array.dtype} {list(array.shape[1:])}"
