"""Sources of tasks in a folder, and the runs that train them on the CPU."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omega21.executors.options import DeviceOptions
from omega21.executors.torch import TorchDevice, find_torch_device
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.tasks.code import code_sha256, encode_code
from omega21.protocol.tasks.task import CodeTask

NETS = Path(__file__).parent / "nets"

Arrays = dict[str, NDArray[Any]]

_numbers = itertools.count()


def schema(
    inputs: Mapping[str, tuple[str, tuple[int, ...]]],
    targets: Mapping[str, tuple[str, tuple[int, ...]]] | None = None,
) -> Schema:
    """A schema of (type, shape) by name."""

    def specs(given: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, TensorSpec]:
        return {
            n: TensorSpec.model_validate({"dtype": t, "shape": s}) for n, (t, s) in given.items()
        }

    return Schema(inputs=specs(inputs), targets=specs(targets or {}))


X_Y = schema({"x": ("float32", (4,))}, {"y": ("float32", ())})


class Sources:
    """A folder of sources by digest, as a server has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, files: Mapping[str, str], entry: str = "net:build", **fields: Any) -> CodeTask:
        """Store files under a digest that no other test has: one process serves one source."""
        contents = {name: text.encode() for name, text in files.items()}
        contents["number.txt"] = f"{self.folder} {next(_numbers)}".encode()
        sha256 = code_sha256(contents)
        for name, content in contents.items():
            path = self.folder / sha256 / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (self.folder / f"{sha256}.bin").write_bytes(encode_code(contents))
        return CodeTask(entry=entry, code_sha256=sha256, **fields)

    def add_net(self, name: str, **fields: Any) -> CodeTask:
        """Store the folder of nets, with one of them as the entry."""
        files = {path.name: path.read_text(encoding="utf-8") for path in NETS.glob("*.py")}
        return self.add(files, f"{name}:build", **fields)

    def device(self, **options: Any) -> TorchDevice:
        """The CPU, with one thread."""
        return find_torch_device(
            DeviceOptions(device="cpu", threads=1, code_folder=self.folder, **options)
        )


def run_config(task: CodeTask, samples: Schema, **fields: Any) -> RunConfig:
    """The configuration of a run of a task, with a rate at which small models learn."""
    fields.setdefault("optimizer", OptimizerConfig(learning_rate=0.01))
    return RunConfig(task=task, sample_schema=samples, seed=3, **fields)


def make_batch(samples: Schema, count: int, *, seed: int = 0, classes: int = 10) -> Arrays:
    """Random samples of a schema: whole numbers are below `classes`."""
    rng = np.random.default_rng(seed)
    batch: Arrays = {}
    for name, spec in samples.tensors.items():
        shape = (count, *spec.shape)
        if spec.dtype == "bool":
            batch[name] = rng.integers(0, 2, shape).astype(bool)
        elif spec.dtype.startswith("float"):
            batch[name] = rng.normal(size=shape).astype(spec.dtype)
        else:
            batch[name] = rng.integers(0, classes, shape).astype(spec.dtype)
    return batch
