"""An executor behind a process."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omega21.executors.base import (
    Arrays,
    Batch,
    DeviceMemory,
    EvaluationOutcome,
    StepOutcome,
)
from omega21.executors.channel import Head
from omega21.executors.process import ExecutorProcess
from omega21.executors.shared_memory import SLOTS, SharedSlots, layout
from omega21.protocol.runs import RunConfig

MOST_AHEAD: Final = SLOTS - 1
"""Steps that may be under way at once: one that is computed, and the next one."""

LEAST_SECONDS: Final = 300.0
"""What else than a step is asked for may take so long at least."""


class RemoteExecutor:
    """See `executors.base.Executor`: each call is a request to the process.

    `release` is called once, by `close`, with the process; `on_memory` with the device memory in
    use after a step. A request that takes longer than `timeout` seconds ends the process.
    """

    def __init__(
        self,
        process: ExecutorProcess,
        config: RunConfig,
        *,
        timeout: float,
        release: Callable[[ExecutorProcess], None],
        on_memory: Callable[[DeviceMemory], None],
    ) -> None:
        self.process = process
        self.steps_under_way = 0
        self._timeout = timeout
        self._release = release
        self._on_memory = on_memory
        self._next_slot = 0
        self._is_closed = False
        self._slots = SharedSlots.create()
        try:
            made = self._make(config)
        finally:
            self._slots.forget_path()
        self.samples_mix: bool = made["samples_mix"]
        self._parameters: tuple[int, int] = tuple(made["parameters"])

    def _make(self, config: RunConfig) -> Head:
        memory = str(self._slots.path)
        try:
            request = {"do": "make", "config": config.model_dump_json(), "memory": memory}
            return self._ask(request)[0]
        except BaseException:
            self.close()
            raise

    def parameters(self) -> tuple[int, int]:
        """See `Executor.parameters`."""
        return self._parameters

    def begin_step(self, batch: Batch, number: int, *, micro_batch_size: int) -> None:
        """See `Executor.begin_step`."""
        assert self.steps_under_way < MOST_AHEAD
        spans, needed = layout({name: (a.dtype.str, a.shape) for name, a in batch.items()})
        if needed > self._slots.slot_bytes:
            assert self.steps_under_way == 0, "the executor reads the memory"
            self._slots.grow(needed)
        slot = self._next_slot
        self._next_slot = (slot + 1) % SLOTS
        for name, array in self._slots.arrays(slot, spans).items():
            array[...] = batch[name]
        self.process.send(
            {
                "do": "step",
                "number": number,
                "micro_batch": micro_batch_size,
                "slot": slot,
                "spans": spans,
                "slot_bytes": self._slots.slot_bytes,
                "first": self.steps_under_way == 0,
            }
        )
        self.steps_under_way += 1

    def fits_beside(self, batch: Batch) -> bool:
        """See `Executor.fits_beside`."""
        _spans, needed = layout({name: (a.dtype.str, a.shape) for name, a in batch.items()})
        return needed <= self._slots.slot_bytes

    def end_step(self) -> StepOutcome:
        """See `Executor.end_step`."""
        self.steps_under_way -= 1
        head, vectors = self.process.receive(timeout=self._timeout)
        self._on_memory(DeviceMemory(*head["memory"]))
        return StepOutcome(
            loss=head["loss"],
            applied=head["applied"],
            skipped_by_scaler=head["skipped_by_scaler"],
            metrics=head["metrics"],
            vectors={name: array.astype(np.float32) for name, array in vectors.items()},
        )

    def step(self, batch: Batch, number: int, *, micro_batch_size: int) -> StepOutcome:
        """See `Executor.step`."""
        self.begin_step(batch, number, micro_batch_size=micro_batch_size)
        return self.end_step()

    def evaluate(self, batch: Batch, *, micro_batch_size: int) -> EvaluationOutcome:
        """See `Executor.evaluate`."""
        head, arrays = self._ask({"do": "evaluate", "micro_batch": micro_batch_size}, batch)
        scores = arrays["scores"].astype(np.float32) if "scores" in arrays else None
        return EvaluationOutcome(loss=head["loss"], metrics=head["metrics"], scores=scores)

    def predict(self, batch: Batch, *, micro_batch_size: int) -> Arrays:
        """See `Executor.predict`."""
        return self._ask({"do": "predict", "micro_batch": micro_batch_size}, batch)[1]

    def weights(self) -> Arrays:
        """See `Executor.weights`."""
        return self._ask({"do": "weights"})[1]

    def state(self) -> Arrays:
        """See `Executor.state`."""
        return self._ask({"do": "state"})[1]

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Executor.restore`."""
        self._ask({"do": "restore"}, state)

    def close(self) -> None:
        """See `Executor.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        if self.steps_under_way:  # their replies would be taken for others
            self.process.kill()
        self._slots.close()
        self._release(self.process)

    def _ask(
        self, head: Head, arrays: Mapping[str, NDArray[np.generic]] | None = None
    ) -> tuple[Head, Arrays]:
        assert not self.steps_under_way, "replies come in order"
        self.process.send(head, arrays)
        return self.process.receive(timeout=max(self._timeout, LEAST_SECONDS))
