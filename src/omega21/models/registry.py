"""The built-in kinds of tasks, by name; imports no torch.

A kind's network is in a module of its own, which is loaded by name where steps are computed.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from pydantic import ValidationError

from omega21.language import _
from omega21.models.corteza import config as corteza
from omega21.models.corteza.description import describe as describe_corteza
from omega21.models.description import ModelDescription
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.messages import Document
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema
from omega21.protocol.shards import Tensors
from omega21.protocol.tasks.task import BuiltInTask, CodeTask, Task


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """A built-in kind: what its `config` may hold, and how its parts are found.

    `schema` gives the samples' schema for a config. `load` imports the module whose `make_task`
    makes the task of a run. `small` is a config for a test of the device. `labels` name metrics and
    vectors for people. `check` finds the first sample with a value that cannot be trained, by its
    position, and why; it may get the targets alone.
    """

    name: str
    config: type[Document]
    schema: Callable[[Any], Schema]
    load: Callable[[], ModuleType]
    describe: Callable[[Any], ModelDescription]
    small: Document
    labels: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Tensors], tuple[int, str] | None] | None = None


_KINDS: Final = {
    kind.name: kind
    for kind in (
        TaskKind(
            name=corteza.KIND,
            config=corteza.ModelConfig,
            schema=corteza.sample_schema,
            load=lambda: importlib.import_module("omega21.models.corteza.task"),
            describe=describe_corteza,
            small=corteza.TINY,
            labels=corteza.METRIC_LABELS,
            check=corteza.find_invalid,
        ),
    )
}
_DEFAULT: Final = corteza.KIND


def task_kind(name: str) -> TaskKind:
    """Return a built-in kind. Raises InvalidRequest."""
    if name not in _KINDS:
        raise InvalidRequest(
            _("there is no task {kind!r}").format(kind=name),
            hint=_("use one of {kinds}").format(kinds=", ".join(sorted(_KINDS))),
        )
    return _KINDS[name]


def built_in_kinds() -> Iterable[TaskKind]:
    """Return all built-in kinds."""
    return _KINDS.values()


def default_task() -> BuiltInTask:
    """Return the task of a run that names none."""
    return BuiltInTask(kind=_DEFAULT)


def default_config(**fields: Any) -> RunConfig:
    """Return the configuration of a run of the default task; `fields` are those of RunConfig."""
    return built_in_config(default_task(), **fields)


def built_in_config(task: BuiltInTask, **fields: Any) -> RunConfig:
    """Return the configuration of a run of a built-in task, with its schema. Raises InvalidRequest.

    The task's config is completed, so that a default that changes later changes no run.
    """
    kind = task_kind(task.kind)
    try:
        config = kind.config.model_validate(task.config)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(
            _("task {kind}: {field}: {reason}").format(
                kind=kind.name, field=".".join(map(str, first["loc"])), reason=first["msg"]
            )
        ) from error
    whole = BuiltInTask(kind=kind.name, config=config.model_dump(mode="json"))
    return RunConfig(task=whole, sample_schema=kind.schema(config), **fields)


def check_config(config: RunConfig) -> RunConfig:
    """Return a run's configuration, completed. Raises InvalidRequest."""
    if isinstance(config.task, CodeTask):
        return config
    whole = built_in_config(config.task)
    if whole.sample_schema != config.sample_schema:
        raise InvalidRequest(
            _("task {kind} has other tensors than the samples' schema").format(
                kind=config.task.kind
            )
        )
    return config.model_copy(update={"task": whole.task})


def small_config() -> RunConfig:
    """Return the configuration of a small run, for a test of the device."""
    kind = _KINDS[_DEFAULT]
    return built_in_config(BuiltInTask(kind=kind.name, config=kind.small.model_dump(mode="json")))


def load_task_maker(config: RunConfig) -> Callable[..., Any]:
    """Import the function that makes a run's task; this imports torch."""
    is_code = isinstance(config.task, CodeTask)
    module = (
        importlib.import_module("omega21.models.code.task")
        if is_code
        else task_kind(config.task.kind).load()
    )
    made: Callable[..., Any] = module.make_task
    return made


def value_check(task: Task) -> Callable[[Tensors], tuple[int, str] | None] | None:
    """Return what checks the values of a task's samples; None where any may be trained."""
    return task_kind(task.kind).check if isinstance(task, BuiltInTask) else None


def describe(config: RunConfig) -> ModelDescription:
    """Describe the model of a run in words."""
    task, schema = config.task, config.sample_schema
    if isinstance(task, BuiltInTask):
        kind = task_kind(task.kind)
        return kind.describe(kind.config.model_validate(task.config))
    listed = ", ".join(f"{name} {spec}" for name, spec in schema.inputs.items())
    return ModelDescription(name=task.entry, layers=(), input=listed, process=task.entry, output="")


def is_built_in(kind: str) -> bool:
    """Whether a kind of task is one of the package."""
    return kind in _KINDS


def metric_labels(kind: str, names: Iterable[str]) -> dict[str, str]:
    """Return how metrics and vectors are called for people, those that a built-in kind labels."""
    known = _KINDS.get(kind)
    return {name: _(known.labels[name]) for name in names if known and name in known.labels}


def metric_label(kind: str, name: str) -> str:
    """Return how one is called for people: its label, else its name."""
    return metric_labels(kind, [name]).get(name, name)


def headline_metrics(kind: str, names: Iterable[str]) -> list[str]:
    """Return the metrics that a short view shows.

    Those that have a label, if the kind gives any; all of others.
    """
    known = _KINDS.get(kind)
    return [name for name in names if not known or not known.labels or name in known.labels]
