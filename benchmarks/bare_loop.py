"""The bare training loop: the same steps as a run's, with no server, no shards and no disk.

What training on a server costs is measured against it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from omega21.data.order import batch_of_step, epoch_order, step_seed, steps_per_epoch
from omega21.data.samples import Samples
from omega21.executors.optimizer import build_optimizer, set_learning_rate
from omega21.executors.options import DeviceOptions
from omega21.executors.platform import Hardware
from omega21.models.task import Task
from omega21.protocol.optimizers import OptimizerConfig

_Result = TypeVar("_Result")


def in_a_thread(work: Callable[[], _Result]) -> _Result:
    """Do what computes in a thread that ends with it, as the server has one thread that computes.

    Each thread that ever computed keeps OpenMP threads of its own while it lives, and libgomp
    hardly spins any more once there are more of them than cores: beside a main thread that had
    built the model, the bare loop took more than twice as long for a step of the tiny model.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


class Batch(NamedTuple):
    """Samples of one step: x float32 [n, 1600], y float32 [n]."""

    x: Tensor
    y: Tensor


def batches(
    samples: Samples, *, batch_size: int, epochs: int = 1, order_seed: int = 0
) -> Iterator[Batch]:
    """Cut a segment's samples into the batches of its steps, as a run does."""
    count = len(samples.y)
    x, y = torch.from_numpy(samples.x), torch.from_numpy(samples.y)
    for step in range(1, epochs * steps_per_epoch(count, batch_size) + 1):
        epoch, start, stop = batch_of_step(
            step, samples=count, batch_size=batch_size, epochs=epochs
        )
        order = torch.from_numpy(epoch_order(order_seed, epoch=epoch, samples=count))[start:stop]
        yield Batch(x[order], y[order])


class BareLoop:
    """A model, its optimizer and the number of the last step."""

    def __init__(self, task: Task, config: OptimizerConfig, *, run_seed: int) -> None:
        self.task = task
        self.model = task.module.train()
        self.config = config
        self.run_seed = run_seed
        self.step = 0
        self._optimizer = build_optimizer(task.parameter_groups(), config)
        self._hardware = Hardware.find(DeviceOptions())

    def train(self, ready: Sequence[Batch]) -> list[float]:
        """Train one step on each of the batches, which are on the model's device; the losses."""
        return [self._train_step(batch) for batch in ready]

    def _train_step(self, batch: Batch) -> float:
        self.step += 1
        self._hardware.seed(step_seed(self.run_seed, self.step))
        self._optimizer.zero_grad()
        loss = self.task.loss(self.task.forward(batch._asdict()), batch._asdict())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        set_learning_rate(self._optimizer, self.config, self.step)
        self._optimizer.step()
        return loss.item()
