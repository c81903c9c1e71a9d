"""The rows of the user's file that caused a non-finite loss, gradient or score."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omega21.client.request.data import Files
from omega21.client.request.sources import find_file, segment_rows, validation_rows
from omega21.data.order import batch_of_step, epoch_order
from omega21.data.sources.files import DataSet
from omega21.language import _, ngettext
from omega21.language.figures import count, number
from omega21.protocol.plan import PlanIndex, Segment, Source
from omega21.protocol.runs import RunConfig
from omega21.protocol.shards import Tensors

_MOST_STEPS: Final = 64
_MOST_NAMED: Final = 10
_OUTLIER: Final = 1000.0
"""A row is reported alone if its largest value is this many times that of a usual row."""
_USUAL_ROWS: Final = 256
_MOST_BYTES: Final = 32 * 2**20  # read at a time


def name_rows_of_steps(
    segments: Sequence[Segment], steps: Sequence[int], *, files: Files, config: RunConfig
) -> str:
    """Name the rows of data files that some steps trained on; "" if none is from a file.

    Rows with much larger values than usual are reported alone. The first 64 steps are checked.
    Raises InvalidDataSet when a file has changed.
    """
    index = PlanIndex(segments)
    by_segment: dict[int, list[NDArray[np.int64]]] = {}
    for step in steps[:_MOST_STEPS]:
        place, position = index.locate(step)
        by_segment.setdefault(place, []).append(_places(segments[place], position))
    named = []
    for place, places in by_segment.items():
        segment = segments[place]
        if segment.source.kind == "file":
            file = find_file(segment.source, files, config=config)
            order = segment_rows(segment, total=len(file))
            named.append(_name(file, np.unique(order[np.concatenate(places)])))
    return "; ".join(named)


def name_held_out_rows(
    source: Source, scores: NDArray[np.float32], *, files: Files, config: RunConfig
) -> str:
    """Name the held-out samples that score NaN or infinite, given all scores [n] in their order."""
    bad = np.flatnonzero(~np.isfinite(scores))
    if source.kind != "file":
        return _("held-out samples {numbers}").format(numbers=_listed(bad))
    file = find_file(source, files, config=config)
    rows = validation_rows(source, len(scores), total=len(file))[bad]
    return _in_file(file, np.sort(rows))


def _places(segment: Segment, position: int) -> NDArray[np.int64]:
    """Return the positions in the segment of the samples of its step `position`."""
    batch = batch_of_step(
        position + 1,
        samples=segment.samples,
        batch_size=segment.batch_size,
        epochs=segment.epochs,
    )
    order = epoch_order(segment.order_seed, epoch=batch.epoch, samples=segment.samples)
    return order[batch.start : batch.stop]


def _name(file: DataSet, rows: NDArray[np.int64]) -> str:
    outliers = rows[_peaks(file, rows) > _OUTLIER * _usual_peak(file)]
    if not len(outliers):
        return _in_file(file, rows)
    peak = float(_peaks(file, outliers).max())
    return _("{rows}, with values up to {peak}").format(
        rows=_in_file(file, outliers), peak=number(peak, 4)
    )


def _usual_peak(file: DataSet) -> float:
    """Return the usual largest value of a row: a low quantile, since most rows may be invalid."""
    some = np.linspace(0, len(file) - 1, min(len(file), _USUAL_ROWS)).astype(np.int64)
    return float(np.quantile(_peaks(file, some), 0.1)) or 1.0


def _peaks(file: DataSet, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the largest value of each row in any float input, by its absolute value."""
    return np.concatenate([_peaks_of(file, file.read(part)) for part in _parts(file, rows)])


def _peaks_of(file: DataSet, tensors: Tensors) -> NDArray[np.float64]:
    peaks = np.zeros(len(next(iter(tensors.values()))))
    for name, spec in file.schema.inputs.items():
        if spec.numpy_type.kind == "f":
            values = np.abs(tensors[name].astype(np.float64)).reshape(len(peaks), -1)
            peaks = np.maximum(peaks, values.max(axis=1))
    return peaks


def _parts(file: DataSet, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    size = max(1, min(_USUAL_ROWS, _MOST_BYTES // file.schema.sample_bytes))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _in_file(file: DataSet, rows: NDArray[np.int64]) -> str:
    text = ngettext("row {rows} of {file}", "rows {rows} of {file}", len(rows))
    return text.format(rows=_listed(rows), file=file.name)


def _listed(numbers: NDArray[np.int64]) -> str:
    """Format ascending numbers from 0: a range by its ends, at most ten single numbers."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return _("{first} to {last}").format(first=numbers[0], last=numbers[-1])
    named = ", ".join(map(str, numbers[:_MOST_NAMED].tolist()))
    if len(numbers) <= _MOST_NAMED:
        return named
    return _("{numbers} and {count} more").format(
        numbers=named, count=count(len(numbers) - _MOST_NAMED)
    )
