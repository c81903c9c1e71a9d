"""The samples of a segment, block by block: generated, or read from the user's file.

A segment takes samples offset, offset + 1, … of a sequence: of a generator's (kind, seed), or of a
file's rows as shuffled by the data seed. Samples are used in an order shuffled by that seed too.
Held-out samples are never trained: they are generated from index 2**40 on, which no segment
reaches, or are a file's last rows in its shuffled order.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from omega21.client.request.data import Files
from omega21.data.order import presentation_order
from omega21.data.sources.files import DataSet, open_data
from omega21.data.sources.generators import KINDS, generate_tensors
from omega21.language import _
from omega21.models.registry import value_check
from omega21.protocol.errors import InvalidDataFile, RunFolderConflict
from omega21.protocol.plan import MAX_SAMPLES, Segment, Source
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema
from omega21.protocol.shards import Tensors, samples_per_shard

HELD_OUT_FROM: Final = MAX_SAMPLES
"""Index of the first generated sample for validation."""


class SampleSource(Protocol):
    """Returns a segment's samples in the order in which they are cut into shards."""

    def block(self, start: int, stop: int) -> Tensors:
        """Return samples start to stop of the segment; always the same ones."""


class GeneratedSamples:
    """A segment's synthetic samples of one kind, seed and share of anomalies, generated on demand.

    Uses 8 bytes of memory a sample, for their order.
    """

    def __init__(self, segment: Segment, schema: Schema) -> None:
        source = segment.source
        assert source.kind in KINDS
        assert source.anomaly_percent is not None
        self._kind, self._seed, self._percent = source.kind, source.seed, source.anomaly_percent
        self._schema = schema
        self._order = presentation_order(source.seed, offset=source.offset, samples=segment.samples)

    def block(self, start: int, stop: int) -> Tensors:
        """Generate samples start to stop of the segment."""
        return generate_tensors(
            self._kind,
            self._seed,
            self._order[start:stop],
            anomaly_percent=self._percent,
            schema=self._schema,
        )


class FileSamples:
    """A segment's samples from a data set, shuffled as a whole by the data seed."""

    def __init__(self, segment: Segment, samples: DataSet) -> None:
        self._rows = segment_rows(segment, total=len(samples))
        self._samples = samples

    def block(self, start: int, stop: int) -> Tensors:
        """Read samples start to stop of the segment. Raises InvalidSamples."""
        return self._samples.read(self._rows[start:stop])


def segment_rows(segment: Segment, *, total: int) -> NDArray[np.int64]:
    """Return the rows of a file of `total` samples that a segment trains, in its order."""
    source = segment.source
    order = presentation_order(source.seed, offset=0, samples=total)
    return order[source.offset : source.offset + segment.samples]


def validation_rows(source: Source, count: int, *, total: int) -> NDArray[np.int64]:
    """Return the `count` rows of a file of `total` samples that are held out, in their order."""
    return presentation_order(source.seed, offset=0, samples=total)[total - count :]


def open_source(segment: Segment, files: Files, *, config: RunConfig) -> SampleSource:
    """Open the source of a segment's samples, in the schema of the run.

    Raises RunFolderConflict when they cannot be created again, InvalidDataFile.
    """
    source = segment.source
    if source.kind in KINDS:
        return GeneratedSamples(segment, config.sample_schema)
    if source.kind == "file":
        return FileSamples(segment, find_file(source, files, config=config))
    raise RunFolderConflict(
        _("the samples of an inline batch are not on this machine"),
        hint=_("they are on the server that trained them, if it still has the run"),
    )


def validation_blocks(
    source: Source, count: int, *, files: Files, config: RunConfig
) -> Iterator[Tensors]:
    """Yield `count` held-out samples of a segment's source, a shard's worth at a time."""
    schema = config.sample_schema
    block: Callable[[range], Tensors]
    if source.kind in KINDS:
        kind, percent = source.kind, source.anomaly_percent or 0.0
        first = HELD_OUT_FROM
        block = partial(generate_tensors, kind, source.seed, anomaly_percent=percent, schema=schema)
    else:
        samples = find_file(source, files, config=config)
        held_out = validation_rows(source, count, total=len(samples))
        first = 0
        block = lambda rows: samples.read(held_out[rows.start : rows.stop])  # noqa: E731
    size = samples_per_shard(schema)
    for start in range(0, count, size):
        yield block(range(first + start, first + min(start + size, count)))


def find_file(source: Source, files: Files, *, config: RunConfig) -> DataSet:
    """Open the samples of a source, identified by their digest. Raises InvalidDataFile."""
    place = files.get(source.file_sha256 or "")
    if isinstance(place, DataSet):
        return place
    if place is None:
        raise InvalidDataFile(
            _("the data file of this segment is not known on this machine"),
            hint=_("pass it with --data"),
        )
    is_kept = Path(place).stem == source.file_sha256  # given as arrays
    found = open_data(
        place,
        config.sample_schema,
        check=value_check(config.task),
        name=_("the data") if is_kept else None,
    )
    if found.sha256() != source.file_sha256:
        raise InvalidDataFile(
            _("{place} is not the file that this segment was created with").format(place=place),
            hint=_("restore that file, or train another run with --run"),
        )
    return found
