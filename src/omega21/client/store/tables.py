"""A run's results as a table in a file: CSV, JSON lines or Parquet; one row a step.

The columns are those of the view `results` in results.sqlite.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from omega21.client.store.results import Results
from omega21.data.durable import write_durably
from omega21.language import _
from omega21.protocol.errors import ExtraMissing

TableFormat = Literal["csv", "jsonl", "parquet"]
_Rows = Iterator[list[tuple[Any, ...]]]


def write_table(results: Results, path: Path, *, kind: TableFormat) -> int:
    """Write all results to `path` atomically, and return the number of rows.

    Raises ExtraMissing for Parquet if pyarrow is not installed.
    """
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise ExtraMissing.of("parquet", for_what=_("a Parquet file"))
    columns, rows = results.table()
    write_durably(path, _WRITERS[kind](columns, rows))
    return results.last_step


def _csv(columns: list[str], rows: _Rows) -> Iterator[bytes]:
    yield _lines([tuple(columns)])
    for some in rows:
        yield _lines(some)


def _lines(rows: list[tuple[Any, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _jsonl(columns: list[str], rows: _Rows) -> Iterator[bytes]:
    for some in rows:
        documents = (dict(zip(columns, row, strict=True)) for row in some)
        yield "".join(json.dumps(document) + "\n" for document in documents).encode()


def _parquet(columns: list[str], rows: _Rows) -> Iterator[bytes]:
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, and large
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415

    kinds = {"step": pa.int64(), "samples": pa.int64(), "ended_at_utc": pa.string()}
    schema = pa.schema(
        [
            (name, kinds.get(name, pa.string() if name == "outcome" else pa.float64()))
            for name in columns
        ]
    )
    file = io.BytesIO()
    with pq.ParquetWriter(file, schema) as writer:
        for some in rows:
            documents = [dict(zip(columns, row, strict=True)) for row in some]
            writer.write_table(pa.Table.from_pylist(documents, schema))
    yield file.getvalue()


_WRITERS: Final[dict[TableFormat, Callable[[list[str], _Rows], Iterator[bytes]]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
