"""The executor and the device of torch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

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
    DeviceOptions,
    FloatArray,
    StepOutcome,
)
from omega21.executors.optimizer import build_optimizer, set_learning_rate
from omega21.executors.platform import Hardware, autocast_dtype
from omega21.models.corteza import CortezaCognitivaV4, build_model
from omega21.protocol.runs import RunConfig

_LOSS: Final = "loss"
"""Key of the loss among the named means of a step."""


class TorchDevice(Hardware):
    """A torch device; see `executors.base.Device`."""

    def make_executor(self, config: RunConfig) -> "TorchExecutor":
        """See `Device.make_executor`."""
        with _named_failures():
            return TorchExecutor(config, self)

    def parameters(self, config: RunConfig) -> tuple[int, int]:
        """See `Device.parameters`."""
        with torch.device("meta"):
            model = CortezaCognitivaV4(config.model)
        counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
        return (
            sum(count for count, _ in counts),
            sum(count for count, trainable in counts if trainable),
        )


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
        self._precision = hardware.precision_for(config)
        self._model = build_model(config.model, seed=config.seed).to(self._device)
        self._model.train()
        self._parameters = [p for p in self._model.parameters() if p.requires_grad]
        self._optimizer = build_optimizer(self._model, config.optimizer)
        self._allocate_moments()
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._precision == "float16")

    def _allocate_moments(self) -> None:
        """Allocate the optimizer's moments in advance, so that applying a step allocates nothing.

        Otherwise a step could run out of memory half applied, and the first step would differ
        from the others.
        """
        for parameter in self._parameters:
            state = self._optimizer.state[parameter]
            state["step"] = torch.zeros((), dtype=torch.float32, device=self._step_device())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)

    def _step_device(self) -> torch.device:
        fused = bool(self._optimizer.param_groups[0].get("fused"))
        return self._device if fused else torch.device("cpu")

    def step(self, batch: Batch, number: int, *, micro_batch_size: int) -> StepOutcome:
        """See `Executor.step`."""
        with _named_failures():
            return self._step(batch, number, micro_batch_size)

    def _step(self, batch: Batch, number: int, micro_batch_size: int) -> StepOutcome:
        try:
            means = self._gradients(batch, number, micro_batch_size)
        except torch.OutOfMemoryError:
            self._optimizer.zero_grad()
            self._release_memory()
            raise
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self._parameters, self._config.optimizer.max_grad_norm
        )
        flat = torch.cat([norm.reshape(1), *(mean.reshape(-1) for mean in means.values())])
        values: FloatArray = flat.cpu().numpy()  # the only transfer from the device in a step
        summary, place = {}, 1
        for name, mean in means.items():
            summary[name] = values[place : place + mean.numel()].reshape(tuple(mean.shape))
            place += mean.numel()
        loss = float(summary.pop(_LOSS))
        finite = math.isfinite(loss) and math.isfinite(values[0])
        # A gradient that overflows unscaled is not caused by the scale: the step is non-finite.
        by_scale = not finite and self._scaler.is_enabled() and self._scaler.get_scale() >= 1
        skipped = by_scale and math.isfinite(loss)
        if finite:
            set_learning_rate(self._optimizer, self._config.optimizer, number)
            self._scaler.step(self._optimizer)
        if finite or skipped:
            self._scaler.update()
        else:
            self._forget_unscaling()
        self._optimizer.zero_grad()
        return StepOutcome(loss, finite, skipped, summary)

    def _gradients(self, batch: Batch, number: int, micro_batch_size: int) -> dict[str, Tensor]:
        """Accumulate the gradient of the mean loss over micro-batches.

        Return the named means and the loss.
        """
        self._hardware.seed(step_seed(self._config.seed, number))
        total = len(batch.y)
        sums: dict[str, Tensor] = {}
        for x_BF, y_B in self._parts(batch, micro_batch_size):
            weight = len(y_B) / total
            with self._autocast():
                outputs = self._model(x_BF)
            part_loss = self._model.loss(outputs, y_B)
            self._scaler.scale(_weighted(part_loss, weight)).backward()
            for name, mean in {_LOSS: part_loss, **self._model.summary(outputs)}.items():
                share = _weighted(mean.detach().float(), weight)
                sums[name] = sums[name] + share if name in sums else share
        return sums

    def _parts(self, batch: Batch, micro_batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(batch.y), micro_batch_size):
            stop = start + micro_batch_size
            yield self._to_device(batch.x[start:stop]), self._to_device(batch.y[start:stop])

    def _to_device(self, array: FloatArray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
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

    def _release_memory(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.no_grad()
    def evaluate(
        self, x: FloatArray, y: FloatArray, *, micro_batch_size: int
    ) -> tuple[float, FloatArray]:
        """See `Executor.evaluate`."""
        total = 0.0
        scores: list[FloatArray] = []
        with self._evaluation():
            for x_BF, y_B in self._parts(Batch(x, y), micro_batch_size):
                with self._autocast():
                    outputs = self._model(x_BF)
                total += float(self._model.loss(outputs, y_B)) * len(y_B)
                scores.append(self._model.scores(outputs).float().cpu().numpy())
        return total / len(y), np.concatenate(scores)

    @torch.no_grad()
    def predict(self, x: FloatArray, *, micro_batch_size: int) -> dict[str, FloatArray]:
        """See `Executor.predict`."""
        parts: list[Mapping[str, Tensor]] = []
        unlabelled = np.zeros(len(x), dtype=np.float32)
        with self._evaluation():
            for x_BF, _ in self._parts(Batch(x, unlabelled), micro_batch_size):
                with self._autocast():
                    outputs = self._model(x_BF)
                parts.append(
                    {n: t.float().cpu() for n, t in self._model.predictions(outputs).items()}
                )
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        self._model.eval()
        try:
            with _named_failures():
                yield
        except DeviceMemoryExhausted:
            self._release_memory()
            raise
        finally:
            self._model.train()

    def weights(self) -> Arrays:
        """See `Executor.weights`."""
        with _named_failures():
            return {name: _to_cpu(tensor) for name, tensor in self._model.state_dict().items()}

    def state(self) -> Arrays:
        """See `Executor.state`."""
        with _named_failures():
            return self._state()

    def _state(self) -> Arrays:
        arrays = {f"weights.{name}": array for name, array in self.weights().items()}
        for name, parameter in self._named_parameters():
            for key, value in self._optimizer.state[parameter].items():
                arrays[f"optimizer.{key}.{name}"] = _to_cpu(value)
        if self._scaler.is_enabled():
            scaler = self._scaler.state_dict()
            arrays["scaler.scale"] = np.array(scaler["scale"], dtype=np.float64)
            arrays["scaler.growth_tracker"] = np.array(scaler["_growth_tracker"], dtype=np.int64)
        return arrays

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Executor.restore`."""
        with _named_failures():
            self._restore(state)

    def _restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        weights = {
            name.removeprefix("weights."): torch.from_numpy(np.array(array))
            for name, array in state.items()
            if name.startswith("weights.")
        }
        self._model.load_state_dict(weights)
        with torch.no_grad():
            for name, parameter in self._named_parameters():
                for key, value in self._optimizer.state[parameter].items():
                    value.copy_(torch.from_numpy(np.array(state[f"optimizer.{key}.{name}"])))
        if self._scaler.is_enabled() and "scaler.scale" in state:
            values = self._scaler.state_dict()
            values["scale"] = float(state["scaler.scale"])
            values["_growth_tracker"] = int(state["scaler.growth_tracker"])
            self._scaler = torch.amp.GradScaler(self._device.type)
            self._scaler.load_state_dict(values)

    def _named_parameters(self) -> Sequence[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self._model.named_parameters() if p.requires_grad]


def _weighted(mean: Tensor, weight: float) -> Tensor:
    return mean if weight == 1 else mean * weight


def _to_cpu(tensor: Tensor) -> NDArray[np.generic]:
    array: NDArray[np.generic] = tensor.detach().to("cpu", copy=True).contiguous().numpy()
    return array
