"""A device that computes in the test's own process, where a test replaces parts of the model.

Processes of their own are tested in tests/executors/test_process.py, and by every test with a
server.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

from omega21.engine.engine import Engine
from omega21.executors.base import (
    Batch,
    DeviceMemory,
    DeviceMemoryExhausted,
    StepDropped,
    StepOutcome,
)
from omega21.executors.devices import DeviceDescription, ProcessDevice
from omega21.executors.options import DeviceOptions
from omega21.executors.torch import TorchDevice, TorchExecutor, find_torch_device
from omega21.protocol.runs import RunConfig
from omega21.protocol.tasks.probe import ProbeFound


class LocalExecutor(TorchExecutor):
    """Computes a step when it is waited for."""

    def __init__(self, config: RunConfig, hardware: TorchDevice) -> None:
        super().__init__(config, hardware)
        self._device_of_all = hardware
        self._begun: deque[Callable[[], StepOutcome]] = deque()
        self._is_dropping = False

    @property
    def steps_under_way(self) -> int:
        return len(self._begun)

    def begin_step(self, batch: Batch, number: int, *, micro_batch_size: int) -> None:
        is_first = not self._begun
        held = {name: array.copy() for name, array in batch.items()}

        def compute() -> StepOutcome:
            if self._is_dropping and not is_first:
                raise StepDropped
            self._is_dropping = False
            self._device_of_all.prepare(self._config)
            return self.step(held, number, micro_batch_size=micro_batch_size)

        self._begun.append(compute)

    def fits_beside(self, _batch: Batch) -> bool:
        return True

    def end_step(self) -> StepOutcome:
        try:
            return self._begun.popleft()()
        except DeviceMemoryExhausted:
            self._is_dropping = True
            raise

    def close(self) -> None:
        self._begun.clear()


class LocalDevice(ProcessDevice):
    """See `executors.base.Device`."""

    def __init__(self, options: DeviceOptions) -> None:
        self._device = find_torch_device(options)
        self._memory = DeviceMemory()

    def check(self) -> None:
        pass

    @property
    def _description(self) -> DeviceDescription:
        return DeviceDescription(**self._device.describe())  # type: ignore[arg-type]

    def make_executor(  # type: ignore[override]
        self, config: RunConfig, *, on_output: Callable[[bytes], None] | None = None
    ) -> LocalExecutor:
        del on_output  # the test's own process prints
        self._device.prepare(config)
        return LocalExecutor(config, self._device)

    def warm_up(self) -> None:
        self._device.warm_up()

    def parameters(self, config: RunConfig) -> tuple[int, int]:
        return self._device.parameters(config)

    def probe(self, config: RunConfig, batch: Batch) -> ProbeFound:
        return self._device.probe(config, batch)

    def memory_mb(self) -> float:
        return self._device.memory()[0] / 1e6

    def process_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass


local_engine: Callable[..., Engine] = partial(Engine, find_device=LocalDevice)
