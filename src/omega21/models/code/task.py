"""A task in the user's own source: its functions where it has them, and defaults where not."""

import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from omega21.language import _
from omega21.models.code.calls import STORED_TYPES, Forward, check_module
from omega21.models.code.failures import named_failures
from omega21.models.code.losses import (
    LossByName,
    default_loss,
    describe_outputs,
)
from omega21.models.code.returned import Returned
from omega21.models.code.source import Source, load_source
from omega21.models.task import Batch, Task
from omega21.protocol.errors import TaskFailed
from omega21.protocol.metrics import (
    MAX_VECTOR_VALUES,
)
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema
from omega21.protocol.tasks.task import CodeTask

_HALF_TYPES: Final = frozenset({torch.bfloat16, torch.float16})


class UserTask(Task):
    """The model that `build` made, with the functions of its module.

    Samples may mix (batch norm), so that a batch is computed in parts only where the user says so.
    """

    samples_mix = True

    def __init__(self, source: Source, module: nn.Module, *, task: CodeTask, schema: Schema):
        self.module = module
        self._source = source
        self._schema = schema
        self._returned = Returned(source)
        self._forward = Forward(source, module, schema)
        self._samples = 0
        self._loss = source.function("loss", "outputs", "batch")
        self._metrics = source.function("metrics", "outputs", "batch")
        self._vectors = source.function("vectors", "outputs", "batch")
        self._predictions = source.function("predictions", "outputs")
        self._scores = source.function("scores", "outputs")
        self._augment = source.function("augment", "batch")
        self._optimizer = source.function("optimizer", "parameters")
        self._named_loss = self._choose_loss(task.loss)

    def _choose_loss(self, name: str | None) -> LossByName | None:
        if self._loss is not None:
            if name is not None:
                raise TaskFailed(
                    _("{where}: there is a function loss, and {name!r} was asked for").format(
                        where=self._source.where(self._loss), name=name
                    ),
                    hint=_("remove the function, or leave --loss out"),
                )
            return None
        name = name or default_loss(self._schema)
        if name is None:
            raise TaskFailed(
                _("there is no function loss, and the samples' tensors do not say which it is"),
                hint=_("choose one with --loss, or define loss(outputs, batch)"),
            )
        return LossByName(name, self._schema)

    def failures(self) -> AbstractContextManager[None]:
        """See `Task.failures`."""
        return named_failures(self._source.folder)

    def forward(self, batch: Batch) -> Any:
        """Call the module with the batch's inputs by name."""
        self._samples = len(next(iter(batch.values())))
        return self._forward(batch)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """See `Task.loss`. Raises TaskFailed for what is no scalar, or has no gradient."""
        if self._loss is None:
            assert self._named_loss is not None
            loss: object = self._named_loss(outputs, batch)
        else:
            loss = self._loss(outputs, batch)
        reason = None
        if not isinstance(loss, Tensor):
            reason = _("it is a {type}, not a tensor").format(type=type(loss).__name__)
        elif loss.dim() or not loss.is_floating_point():
            reason = _("it is {found}, not a floating-point scalar").format(
                found=describe_outputs(loss)
            )
        elif torch.is_grad_enabled() and not loss.requires_grad:
            reason = _("no trained parameter takes part in it, so that it has no gradient")
        if reason is not None:
            raise self._returned.wrong(
                self._loss or self.module.forward, reason, hint=_("return the mean over the batch")
            )
        assert isinstance(loss, Tensor)
        return loss

    @torch.no_grad()
    def metrics(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """See `Task.metrics`. Raises TaskFailed for a value that is no scalar."""
        if self._metrics is None:
            return {} if self._named_loss is None else self._named_loss.metrics(outputs, batch)
        found = self._returned.by_metric_name(self._metrics, self._metrics(outputs, batch))
        return {
            name: self._returned.scalar(self._metrics, name, value=value).to(self.device)
            for name, value in found.items()
        }

    @torch.no_grad()
    def vectors(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """See `Task.vectors`. Raises TaskFailed for a value that is no vector."""
        if self._vectors is None:
            return {}
        found = self._returned.by_metric_name(self._vectors, self._vectors(outputs, batch))
        for name, value in found.items():
            if not isinstance(value, Tensor) or value.dim() != 1:
                raise self._returned.wrong(
                    self._vectors,
                    _("{name!r} is {found}, not a tensor [k]").format(
                        name=name, found=describe_outputs(value)
                    ),
                    hint=_("return the mean over the batch"),
                )
        if (count := sum(value.numel() for value in found.values())) > MAX_VECTOR_VALUES:
            raise self._returned.wrong(
                self._vectors,
                _("it returned {count} values, the limit is {most}").format(
                    count=count, most=MAX_VECTOR_VALUES
                ),
                hint=_("they are stored with each step: return a summary of them"),
            )
        return {name: value.detach().to(self.device) for name, value in found.items()}

    @torch.no_grad()
    def predictions(self, outputs: Any) -> Mapping[str, Tensor]:
        """Return what `predictions` gives, by default the outputs; each [n, …].

        Raises TaskFailed for a value of another form.
        """
        function = self._predictions or self.module.forward
        found = self._predictions(outputs) if self._predictions else outputs
        found = {"output": found} if isinstance(found, Tensor) else found
        named = self._returned.by_name(function, found)
        for name, value in named.items():
            fits = isinstance(value, Tensor) and value.shape[:1] == (self._samples,)
            if not fits or value.dtype not in STORED_TYPES | _HALF_TYPES:
                raise self._returned.wrong(
                    function,
                    _("{name!r} is {found}, and there are {count} samples").format(
                        name=name, found=describe_outputs(value), count=self._samples
                    ),
                    hint=_("return tensors [n, …], a value for each sample"),
                )
        return {name: _widened(value.detach()) for name, value in named.items()}

    @torch.no_grad()
    def scores(self, outputs: Any) -> Tensor | None:
        """Return what `scores` gives, [n]; by default the score of a named loss of two classes."""
        if self._scores is None:
            return None if self._named_loss is None else self._named_loss.scores(outputs)
        scores = self._scores(outputs)
        if not isinstance(scores, Tensor) or scores.shape != (self._samples,):
            raise self._returned.wrong(
                self._scores,
                _("it is {found}, and there are {count} samples").format(
                    found=describe_outputs(scores), count=self._samples
                ),
                hint=_("return a tensor [n], a value for each sample"),
            )
        return scores.detach()

    def augment(self, batch: Batch) -> Batch:
        """Return what `augment` makes of the batch. Raises TaskFailed for another form."""
        if self._augment is None:
            return batch
        # It may change what it gets in place; the caller's tensors may be shared memory.
        changed = self._augment({name: tensor.clone() for name, tensor in batch.items()})
        if not isinstance(changed, Mapping):
            raise self._returned.wrong(
                self._augment,
                _("it returned {found}").format(found=describe_outputs(changed)),
                hint=_("return the batch, with the names of the schema"),
            )
        for name, before in batch.items():
            after = changed.get(name)
            if not isinstance(after, Tensor) or after.shape[:1] != before.shape[:1]:
                raise self._returned.wrong(
                    self._augment,
                    _("{name!r} was {before} and is {found}").format(
                        name=name, before=describe_outputs(before), found=describe_outputs(after)
                    ),
                    hint=_("return the batch, with the names of the schema"),
                )
        return dict(changed)

    def optimizer(self) -> torch.optim.Optimizer | None:
        """Return the optimizer that the source makes. Raises TaskFailed for another object."""
        if self._optimizer is None:
            return None
        trained = [p for p in self.module.parameters() if p.requires_grad]
        with self.failures():
            made = self._optimizer(trained)
        if not isinstance(made, torch.optim.Optimizer) or isinstance(made, torch.optim.LBFGS):
            raise self._returned.wrong(
                self._optimizer,
                _("it returned {found}").format(found=type(made).__name__),
                hint=_("return a torch.optim.Optimizer whose step needs no closure"),
            )
        known = {id(p) for p in trained}
        if any(id(p) not in known for group in made.param_groups for p in group["params"]):
            raise self._returned.wrong(
                self._optimizer,
                _("it trains other tensors than the parameters that it got"),
                hint=_("pass parameters, or groups of them, to the optimizer"),
            )
        return made

    @property
    def device(self) -> torch.device:
        """The device of the module."""
        return next(self.module.parameters()).device

    def where(self, function: str) -> str:
        """See `Task.where`; where forward is, for a function that the source does not have."""
        functions = {"build": self._source.build, "loss": self._loss, "metrics": self._metrics}
        return self._source.where(functions[function] or self.module.forward)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _HALF_TYPES else tensor


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and `random` on the CPU, and restore them: the weights follow from it."""
    numpy_state, random_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - the generator that the user's code uses
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(random_state)


def load_task(folder: str, task: CodeTask, *, schema: Schema, seed: int) -> UserTask:
    """Import the source in `folder` and build its model on the CPU, the same weights each time.

    Raises TaskFailed, which names file and line, and ImportFailed.
    """
    source = load_source(folder, task)
    with _seeded(seed):
        module = source.call_build(schema, dict(task.config))
    checked = check_module(source, module)
    return UserTask(source, checked, task=task, schema=schema)


def make_task(config: RunConfig, *, code_folder: str) -> UserTask:
    """Build the task of a run whose source is in `code_folder`. Raises TaskFailed, ImportFailed."""
    assert isinstance(config.task, CodeTask)
    return load_task(code_folder, config.task, schema=config.sample_schema, seed=config.seed)
