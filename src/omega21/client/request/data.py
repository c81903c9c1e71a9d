"""The samples that a train request names: opened, described, and kept where they are in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from omega21.client.request.request import FileFacts, TrainRequest
from omega21.client.store.run_folder import read_run_folder
from omega21.data.schema import named_arrays, narrowed
from omega21.data.sources.files import DataSet, as_data_set, open_data
from omega21.language import _
from omega21.models.registry import default_config, value_check
from omega21.protocol.errors import InvalidRequest
from omega21.protocol.schema import Schema
from omega21.protocol.tasks.task import BuiltInTask


@dataclass(frozen=True, slots=True)
class OpenedData:
    """The user's samples, looked at once; `converted` are float64 tensors that become float32."""

    samples: DataSet
    sha256: str
    converted: tuple[str, ...] = ()

    def facts(self, *, held_out: int | None) -> FileFacts:
        """Return what decides the next segment."""
        return FileFacts(sha256=self.sha256, samples=len(self.samples), held_out=held_out)

    @property
    def place(self) -> "str | DataSet":
        """Where its samples are read: the path of a file, or the arrays themselves."""
        path = self.samples.path
        return self.samples if path is None else str(path.resolve())


Files = Mapping[str, str | DataSet]
"""Where samples are, by digest: paths, or arrays in memory."""


def open_given(request: TrainRequest) -> DataSet | None:
    """Open the data of a request, without looking at each sample. None if there are none.

    Raises InvalidDataFile, InvalidSamples, InvalidRequest.
    """
    if request.data is None:
        return None
    schema, check = _known_schema(request), value_check(request.task)
    targets = request.targets
    if isinstance(request.data, str | Path):
        return open_data(request.data, schema, targets=targets, check=check)
    return as_data_set(request.data, schema, targets=targets, check=check)


def look_at(request: TrainRequest) -> OpenedData | None:
    """Open the data of a request and check every sample; raises as `open_given` does."""
    samples = open_given(request)
    if samples is None:
        return None
    samples.check()
    given = samples.tensors if samples.path is not None else named_arrays(request.data)
    converted = narrowed(given) if _known_schema(request) is None else ()
    return OpenedData(samples, samples.sha256(), tuple(converted))


def with_schema_of_run(request: TrainRequest, path: Path) -> TrainRequest:
    """Return the request with the schema of its run, where there is a folder of it at `path`.

    Further data of a run of the user's own task are converted to what it was created with. Raises
    RunFolderConflict.
    """
    is_known = isinstance(request.task, BuiltInTask) or request.sample_schema is not None
    if is_known or not (path / "run.json").exists():
        return request
    record, _segments = read_run_folder(path)
    return replace(request, sample_schema=record.config.sample_schema)


def with_schema(request: TrainRequest, samples: DataSet | None) -> TrainRequest:
    """Return the request with the schema of its samples. Raises InvalidRequest."""
    schema = _known_schema(request)
    if schema is None:
        schema = samples.schema if samples is not None else default_config().sample_schema
    return replace(request, sample_schema=schema)


def _known_schema(request: TrainRequest) -> Schema | None:
    """Return the schema of a built-in task, or the one that is given; None for that of the data."""
    schema = request.sample_schema
    if isinstance(request.task, BuiltInTask):
        fixed = request.config().sample_schema
        if schema not in (None, fixed):
            raise InvalidRequest(
                _("task {kind} has other tensors than the samples' schema").format(
                    kind=request.task.kind
                )
            )
        schema = fixed
    targets = None if request.targets is None else set(request.targets)
    if schema is not None and targets is not None and targets != set(schema.targets):
        raise InvalidRequest(
            _("the targets of this run are {names}").format(names=", ".join(schema.targets) or "-"),
            hint=_("leave out --targets"),
        )
    return schema
