"""The check of a task before its samples are uploaded; it makes no run."""

from dataclasses import dataclass

import numpy as np

from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.tasks.code import Code
from omega21.executors.base import Batch, Device, DeviceMemoryExhausted, ExecutorDied
from omega21.language import _
from omega21.models.registry import check_config
from omega21.protocol.errors import InvalidSamples, OutOfDeviceMemory, TaskFailed
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema
from omega21.protocol.tasks.probe import MAX_PROBE_SAMPLES, ProbeReply


@dataclass(frozen=True)
class Probe:
    """Builds and trains a task on a few samples, on the device where its run would be."""

    folder: DataFolder
    device: Device
    code: Code

    def probe(self, config: RunConfig, shard: str) -> ProbeReply:
        """Check a run's task on the samples of a small shard.

        Raises CodeNotAllowed, UnknownCode, InstallFailed, TaskFailed, UnknownShard,
        InvalidSamples, OutOfDeviceMemory.
        """
        checked = check_config(config)
        self.code.prepare(checked.task)
        batch = self._read(shard, checked.sample_schema)
        try:
            return self.device.probe(checked, batch)
        except ExecutorDied as error:
            raise TaskFailed(
                _("the process that computes ended: {how}").format(how=error.how),
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
