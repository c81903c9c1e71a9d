"""The executor and the device of torch."""

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omega21.data.order import step_seed
from omega21.executors.base import (
    Arrays,
    Batch,
    DeviceFailed,
    DeviceMemoryExhausted,
    EvaluationOutcome,
    FloatArray,
    StepOutcome,
    batch_size,
)
from omega21.executors.buffers import Buffers, buffer_owners
from omega21.executors.optimizer import build_optimizer, set_learning_rate
from omega21.executors.optimizer_state import optimizer_arrays, restore_optimizer, to_cpu
from omega21.executors.options import DeviceOptions
from omega21.executors.platform import Hardware, autocast_dtype
from omega21.executors.probe import probe
from omega21.language import _
from omega21.models.registry import load_task_maker, small_config
from omega21.models.task import Batch as DeviceBatch
from omega21.models.task import Task
from omega21.protocol.errors import TaskFailed
from omega21.protocol.runs import RunConfig
from omega21.protocol.tasks.code import requirements_sha256
from omega21.protocol.tasks.probe import ProbeFound
from omega21.protocol.tasks.task import CodeTask

_LOSS: Final = "loss"
"""Key of the loss among the named means of a step."""


class TorchDevice(Hardware):
    """A torch device, in the process that computes."""

    def make_executor(self, config: RunConfig) -> "TorchExecutor":
        """See `Device.make_executor`."""
        with _named_failures():
            return TorchExecutor(config, self)

    def parameters(self, config: RunConfig) -> tuple[int, int]:
        """See `Device.parameters`."""
        return _counted(make_task(config, self.options.code_folder))

    def probe(self, config: RunConfig, batch: Batch) -> ProbeFound:
        """See `Device.probe`."""
        self.prepare(config)
        return probe(
            batch,
            make_task=lambda: make_task(config, self.options.code_folder),
            make_executor=lambda: self.make_executor(config),
        )

    def warm_up(self) -> None:
        """See `Device.warm_up`."""
        config = small_config()
        self.prepare(config)
        tensors = config.sample_schema.tensors.items()
        batch = {name: np.zeros((2, *spec.shape), spec.numpy_type) for name, spec in tensors}
        self.make_executor(config).step(batch, 1, micro_batch_size=1)


def _counted(task: Task) -> tuple[int, int]:
    counts = [(p.numel(), p.requires_grad) for p in task.module.parameters()]
    return sum(count for count, _ in counts), sum(count for count, trained in counts if trained)


def make_task(config: RunConfig, code_folder: Path | None) -> Task:
    """Build the task of a run on the CPU, the same weights each time.

    The run's own source is in a folder of `code_folder`, named by its digest. Raises TaskFailed.
    """
    arguments = {}
    if isinstance(config.task, CodeTask):
        assert code_folder is not None, "the device has no folder of sources"
        arguments["code_folder"] = str((code_folder / config.task.code_sha256).resolve())
        _add_requirements(config.task, code_folder)
    own = os.getpid()
    task: Task = load_task_maker(config)(config, **arguments)
    if os.getpid() != own:  # forked by the source: it would build and train beside this one
        os._exit(0)
    return task


def _add_requirements(task: CodeTask, code_folder: Path) -> None:
    """Let what was installed for a source be imported, after all that the server has."""
    if task.requirements:
        place = code_folder.parent / "environments" / requirements_sha256(task.requirements)
        if str(place.resolve()) not in sys.path:
            sys.path.append(str(place.resolve()))


def find_torch_device(options: DeviceOptions) -> TorchDevice:
    """Choose the device. Raises InvalidRequest."""
    return TorchDevice.find(options)


@contextmanager
def _named_failures() -> Iterator[None]:
    """Convert the device's exceptions to those of `executors.base`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryExhausted(str(error)) from error
    except torch.AcceleratorError as error:
        raise DeviceFailed(str(error)) from error


class TorchExecutor:
    """An executor on one torch device."""

    def __init__(self, config: RunConfig, hardware: Hardware) -> None:
        self._config = config
        self._hardware = hardware
        self._device = hardware.device
        self._precision = hardware.precision_for(config.precision)
        self._task = make_task(config, hardware.options.code_folder)
        self._model = self._task.module.to(self._device)
        self._model.train()
        self._buffer_owners = buffer_owners(self._model)
        self._parameters = [p for p in self._model.parameters() if p.requires_grad]
        own = self._task.optimizer()
        self._optimizer = own or build_optimizer(self._task.parameter_groups(), config.optimizer)
        self._has_own_optimizer = own is not None
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._precision == "float16")

    @property
    def samples_mix(self) -> bool:
        """See `Computation.samples_mix`."""
        return self._task.samples_mix

    def parameters(self) -> tuple[int, int]:
        """See `Computation.parameters`."""
        return _counted(self._task)

    def step(self, batch: Batch, number: int, *, micro_batch_size: int) -> StepOutcome:
        """See `Computation.step`."""
        with _named_failures(), self._task.failures():
            return self._step(batch, number, micro_batch_size)

    def _step(self, batch: Batch, number: int, micro_batch_size: int) -> StepOutcome:
        buffers = Buffers(self._buffer_owners)
        try:
            means = self._gradients(batch, number, micro_batch_size)
        except Exception:
            self._optimizer.zero_grad()
            buffers.restore()
            self._hardware.release_memory()
            raise
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm())
        flat = torch.cat([norm.reshape(1), *(mean.reshape(-1) for mean in means.values())])
        values: FloatArray = flat.cpu().numpy()  # the only transfer from the device in a step
        metrics, vectors, place = dict[str, float](), dict[str, FloatArray](), 1
        for name, mean in means.items():
            if mean.dim():
                vectors[name] = values[place : place + mean.numel()]
            else:
                metrics[name] = float(values[place])
            place += mean.numel()
        loss = metrics.pop(_LOSS)
        finite = math.isfinite(loss) and math.isfinite(values[0])
        # A gradient that overflows unscaled is not caused by the scale: the step is non-finite.
        by_scale = not finite and self._scaler.is_enabled() and self._scaler.get_scale() >= 1
        skipped = by_scale and math.isfinite(loss)
        if finite:
            if not self._has_own_optimizer:
                set_learning_rate(self._optimizer, self._config.optimizer, number)
            self._apply()
        else:
            buffers.restore()
        if finite or skipped:
            self._scaler.update()
        else:
            self._forget_unscaling()
        self._optimizer.zero_grad()
        return StepOutcome(loss, finite, skipped, metrics, vectors)

    def _apply(self) -> None:
        """Update the weights; after a failure in the middle only a restore helps."""
        try:
            self._scaler.step(self._optimizer)
        except torch.OutOfMemoryError as error:
            raise DeviceFailed(f"out of memory while a step was applied: {error}") from error

    def _max_grad_norm(self) -> float:
        """Return the norm to clip to; the user's own optimizer gets the gradient as it is."""
        return math.inf if self._has_own_optimizer else self._config.optimizer.max_grad_norm

    def _gradients(self, batch: Batch, number: int, micro_batch_size: int) -> dict[str, Tensor]:
        """Accumulate the gradient of the mean loss over micro-batches.

        Return the named means and the loss.
        """
        self._hardware.seed(step_seed(self._config.seed, number))
        total = batch_size(batch)
        sums: dict[str, Tensor] = {}
        for part in self._parts(batch, micro_batch_size):
            weight = _size(part) / total
            with self._autocast():
                part = self._task.augment(part)  # noqa: PLW2901 - what the loss sees too
                outputs = self._task.forward(part)
            part_loss = self._task.loss(outputs, part)
            self._scaler.scale(_weighted(part_loss, weight)).backward()
            for name, mean in self._means(outputs, part, part_loss).items():
                share = _weighted(mean.detach().float(), weight)
                sums[name] = sums[name] + share if name in sums else share
        return sums

    def _means(self, outputs: Any, part: DeviceBatch, loss: Tensor) -> dict[str, Tensor]:
        metrics, vectors = self._task.metrics(outputs, part), self._task.vectors(outputs, part)
        for name in metrics.keys() & vectors.keys():
            raise TaskFailed(
                _("{name!r} is a metric and a vector of the task").format(name=name),
                hint=_("give one of them another name"),
            )
        return {_LOSS: loss, **metrics, **vectors}

    def _parts(self, batch: Batch, micro_batch_size: int) -> Iterator[DeviceBatch]:
        for start in range(0, batch_size(batch), micro_batch_size):
            stop = start + micro_batch_size
            yield {name: self._to_device(array[start:stop]) for name, array in batch.items()}

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type == "cuda":
            staged = tensor if tensor.is_pinned() else tensor.pin_memory()
            return staged.to(self._device, non_blocking=True)
        return tensor.to(self._device)

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=autocast_dtype(self._precision))

    def _forget_unscaling(self) -> None:
        """Reset the scaler after a step that was not applied."""
        if self._scaler.is_enabled():
            state = self._scaler.state_dict()
            self._scaler = torch.amp.GradScaler(self._device.type)
            self._scaler.load_state_dict(state)

    @torch.no_grad()
    def evaluate(self, batch: Batch, *, micro_batch_size: int) -> EvaluationOutcome:
        """See `Computation.evaluate`."""
        total = batch_size(batch)
        loss, metrics, scores = 0.0, dict[str, float](), list[FloatArray]()
        with self._evaluation():
            for part in self._parts(batch, micro_batch_size):
                with self._autocast():
                    outputs = self._task.forward(part)
                loss += float(self._task.loss(outputs, part)) * _size(part)
                for name, mean in self._task.metrics(outputs, part).items():
                    metrics[name] = metrics.get(name, 0.0) + float(mean) * _size(part)
                part_scores = self._task.scores(outputs)
                if part_scores is not None:
                    scores.append(part_scores.float().cpu().numpy())
        return EvaluationOutcome(
            loss / total,
            {name: summed / total for name, summed in metrics.items()},
            np.concatenate(scores) if scores else None,
        )

    @torch.no_grad()
    def predict(self, batch: Batch, *, micro_batch_size: int) -> Arrays:
        """See `Computation.predict`."""
        parts: list[Mapping[str, Tensor]] = []
        with self._evaluation():
            for part in self._parts(batch, micro_batch_size):
                with self._autocast():
                    outputs = self._task.forward(part)
                found = self._task.predictions(outputs).items()
                parts.append({name: _widened(tensor).cpu() for name, tensor in found})
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        self._model.eval()
        self._hardware.seed(step_seed(self._config.seed, 0))
        try:
            with _named_failures(), self._task.failures():
                yield
        except DeviceMemoryExhausted:
            self._hardware.release_memory()
            raise
        finally:
            self._model.train()

    def weights(self) -> Arrays:
        """See `Computation.weights`."""
        with _named_failures():
            return {name: to_cpu(tensor) for name, tensor in self._model.state_dict().items()}

    def state(self) -> Arrays:
        """See `Computation.state`."""
        with _named_failures():
            return self._state()

    def _state(self) -> Arrays:
        arrays = {f"weights.{name}": array for name, array in self.weights().items()}
        arrays |= optimizer_arrays(
            self._optimizer, self._named_parameters(), groups=self._has_own_optimizer
        )
        if self._scaler.is_enabled():
            scaler = self._scaler.state_dict()
            arrays["scaler.scale"] = np.array(scaler["scale"], dtype=np.float64)
            arrays["scaler.growth_tracker"] = np.array(scaler["_growth_tracker"], dtype=np.int64)
        return arrays

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Computation.restore`."""
        with _named_failures():
            self._restore(state)

    def _restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        weights = {
            name.removeprefix("weights."): torch.from_numpy(np.array(array))
            for name, array in state.items()
            if name.startswith("weights.")
        }
        self._model.load_state_dict(weights)
        restore_optimizer(
            self._optimizer,
            self._named_parameters(),
            arrays=state,
            groups=self._has_own_optimizer,
        )
        if self._scaler.is_enabled() and "scaler.scale" in state:
            values = self._scaler.state_dict()
            values["scale"] = float(state["scaler.scale"])
            values["_growth_tracker"] = int(state["scaler.growth_tracker"])
            self._scaler = torch.amp.GradScaler(self._device.type)
            self._scaler.load_state_dict(values)

    def _named_parameters(self) -> dict[str, torch.nn.Parameter]:
        return {n: p for n, p in self._model.named_parameters() if p.requires_grad}


def _size(batch: DeviceBatch) -> int:
    return len(next(iter(batch.values())))


def _widened(tensor: Tensor) -> Tensor:
    """Return a prediction in a type that numpy has: half precision becomes float32."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _weighted(mean: Tensor, weight: float) -> Tensor:
    return mean if weight == 1 else mean * weight
