"""Inference with the weights of a run, computed between two of its steps."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Generic, TypeVar

from omega21.engine import evaluation
from omega21.engine.evaluation import SelfTest
from omega21.engine.registry import Registry
from omega21.engine.samples import check_to_compute
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.worker import Worker
from omega21.executors.base import Arrays, Device, Executor
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.metrics import finite_or_none
from omega21.protocol.steps import EvaluateReply, encode_scores

T = TypeVar("T")


@dataclass(frozen=True)
class AtStep(Generic[T]):
    """A value, and the step whose weights computed it."""

    step: int
    value: T


@dataclass(frozen=True)
class Inference:
    """Computes with the weights of runs, changing nothing. Each call raises UnknownRun."""

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    worker: Worker
    device: Device

    def compute(self, name: str, function: Callable[[Executor], T]) -> AtStep[T]:
        """Call `function` with a run's executor between two steps.

        Return the result with its step.
        """
        run = self.registry.get(name)
        return self.worker.submit(
            run, lambda executor: AtStep(run.step, function(executor))
        ).result()

    def weights(self, name: str) -> tuple[int, Arrays, str]:
        """Return (step, weights, their digest) after the last step applied."""
        found = self.compute(name, lambda executor: executor.weights())
        return found.step, found.value, tensors_sha256(found.value)

    def predict(self, name: str, shards: Sequence[str]) -> tuple[int, Arrays]:
        """Compute predictions for the samples of `shards`; (step, named predictions [n, …])."""
        self._check_shards(name, shards, labelled=False)
        schema = self.registry.get(name).config.sample_schema
        found = self.compute(
            name, lambda ex: evaluation.predict(ex, self.folder.shards, shards, schema=schema)
        )
        return found.step, found.value

    def evaluate(self, name: str, shards: Sequence[str]) -> EvaluateReply:
        """Compute the scores of the samples of `shards`, and their mean loss."""
        self._check_shards(name, shards, labelled=True)
        schema = self.registry.get(name).config.sample_schema
        found = self.compute(
            name, lambda ex: evaluation.evaluate(ex, self.folder.shards, shards, schema=schema)
        )
        samples, outcome = found.value
        return EvaluateReply(
            run=name,
            step=found.step,
            samples=samples,
            loss=finite_or_none(outcome.loss),
            metrics={name: finite_or_none(value) for name, value in outcome.metrics.items()},
            scores=None if outcome.scores is None else encode_scores(outcome.scores),
        )

    def _check_shards(self, name: str, shards: Sequence[str], *, labelled: bool) -> None:
        config = self.registry.get(name).config
        for sha256 in shards:
            shard = self.folder.shards.open(sha256)
            check_to_compute(shard, sha256, config=config, labelled=labelled)

    def diagnose(self, name: str) -> SelfTest:
        """Run a forward and a backward pass on the real device, changing no run."""
        config = self.registry.get(name).config
        return self.compute(name, lambda _: evaluation.diagnose(config, self.device)).value
