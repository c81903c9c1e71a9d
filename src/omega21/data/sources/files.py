"""Data sets: `.npz` or `.safetensors` files of named tensors, or arrays in memory. Never pickle."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from omega21.data.durable import opened_durably
from omega21.data.samples import Check, to_schema
from omega21.data.schema import check_form, find_schema, named_arrays
from omega21.data.sources.npz import read_npz
from omega21.data.sources.safetensors import FileTensor, read_safetensors
from omega21.language import N_, _
from omega21.protocol.errors import InvalidDataFile, InvalidSamples
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.shards import Tensors, pack_chunks

_SUFFIX_HINT: Final = N_("a data set is a .npz or .safetensors file of tensors, such as x and y")
_CHECKED_BYTES: Final = 32 * 2**20  # checked at a time
_Tensor = NDArray[Any] | FileTensor
_Reader = Callable[[Path, Sequence[str] | None], Mapping[str, _Tensor]]


class DataSet:
    """Samples by row: those of a file, or of arrays in memory; see `open_data`, `as_data_set`.

    Rows of a `.safetensors` file are read on demand; a `.npz` file is read whole. `path` is None
    for arrays in memory; messages call it `name`, by default the file's.
    """

    def __init__(
        self,
        tensors: Mapping[str, _Tensor],
        schema: Schema,
        *,
        path: Path | None = None,
        check: Check | None = None,
        name: str | None = None,
    ) -> None:
        self.tensors = tensors
        self.schema = schema
        self.path = path
        self.name = name or (path.name if path is not None else _("the data"))
        self._check = check
        self._samples = check_form(tensors, schema.tensors)

    def __len__(self) -> int:
        """Count the samples."""
        return self._samples

    def read(self, rows: slice | NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Read and check the given samples, in the order given, in the schema's types.

        Raises InvalidSamples, naming the first invalid sample.
        """
        specs = self.schema.tensors
        given = {name: self.tensors[name][rows] for name in specs}
        return to_schema(given, specs, check=self._check, numbers=np.arange(len(self))[rows])

    def check(self) -> None:
        """Check every sample, with bounded memory. Raises InvalidSamples."""
        rows = max(1, _CHECKED_BYTES // self.schema.sample_bytes)
        for start in range(0, len(self), rows):
            self.read(slice(start, start + rows))

    def sha256(self) -> str:
        """Digest of the file's bytes, or of what `write` makes of arrays, 64 hexadecimal digits."""
        if self.path is not None:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        hasher = hashlib.sha256()
        for chunk in pack_chunks(self._in_memory()):
            hasher.update(chunk)
        return hasher.hexdigest()

    def write(self, path: Path) -> None:
        """Write arrays in memory to a `.safetensors` file, which is on disk on return."""
        with opened_durably(path) as file:
            for chunk in pack_chunks(self._in_memory()):
                file.write(chunk)

    def _in_memory(self) -> Tensors:
        return {name: np.asarray(self.tensors[name]) for name in self.schema.tensors}


def open_data(
    path: str | Path,
    schema: Schema | None = None,
    *,
    targets: Sequence[str] | None = None,
    check: Check | None = None,
    name: str | None = None,
) -> DataSet:
    """Open a file of samples and check its form; `DataSet.check` checks the values.

    With a schema its tensors are read, and converted to its types. Without one all tensors of the
    file are: `targets`, by default `y`, and inputs. Raises InvalidDataFile for a file that is not
    a data set, InvalidSamples for tensors that are not those of the schema, or without samples.
    """
    path = Path(path)
    wanted = None if schema is None else tuple(schema.tensors)
    tensors = read_tensors(path, wanted)
    try:
        schema = schema or find_schema(tensors, targets)
        return DataSet(tensors, schema, path=path, check=check, name=name)
    except InvalidSamples as error:
        raise InvalidSamples(
            _("{name}: {reason}").format(name=path.name, reason=error.message), hint=error.hint
        ) from error


def as_data_set(
    given: Any,
    schema: Schema | None = None,
    *,
    targets: Sequence[str] | None = None,
    check: Check | None = None,
) -> DataSet:
    """Return a map of arrays, or a pair (x, y), as a data set. Raises InvalidSamples.

    Arrays of another type than the schema's, or not in C order, are converted at once;
    `DataSet.check` checks the values.
    """
    arrays = named_arrays(given)
    schema = schema or find_schema(arrays, targets)
    check_form(arrays, schema.tensors)
    whole = {name: _converted(name, arrays[name], spec) for name, spec in schema.tensors.items()}
    return DataSet(whole, schema, check=check)


def _converted(name: str, array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Return an array in the schema's type and C order, converted in parts where it is not."""
    if array.dtype == spec.numpy_type and array.flags.c_contiguous:
        return array
    whole = np.empty(array.shape, spec.numpy_type)
    rows = max(1, _CHECKED_BYTES // spec.nbytes)
    for start in range(0, len(array), rows):
        stop = min(start + rows, len(array))
        part = to_schema({name: array[start:stop]}, {name: spec}, numbers=np.arange(start, stop))
        whole[start:stop] = part[name]
    return whole


def read_inputs(
    path: str | Path, specs: Mapping[str, TensorSpec], *, check: Check | None = None
) -> dict[str, NDArray[np.generic]]:
    """Read the inputs of a file whose samples need no targets, in the schema's types.

    Raises InvalidDataFile and InvalidSamples as `open_data` and `DataSet.check` do.
    """
    return open_data(path, Schema(inputs=dict(specs)), check=check).read(slice(None))


def write_data(path: str | Path, tensors: Tensors) -> None:
    """Write a file of samples atomically, in the format of its extension; it is on disk on return.

    Raises InvalidDataFile for an unknown extension, InvalidSamples for tensors that are no samples.
    """
    path = Path(path)
    suffix = check_ending(path)
    check_form(tensors, find_schema(tensors, ()).tensors)
    with opened_durably(path) as file:
        _write(file, suffix, tensors)


def check_ending(path: Path) -> str:
    """Return the extension that decides a file's format, in lower case. Raises InvalidDataFile."""
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InvalidDataFile(
            _("{name} has an unknown extension").format(name=path.name), hint=_(_SUFFIX_HINT)
        )
    return suffix


def _write(file: BinaryIO, suffix: str, tensors: Tensors) -> None:
    if suffix == ".npz":
        np.savez(file, **tensors)  # type: ignore[arg-type]  # one of its parameters is a flag
    else:
        file.writelines(pack_chunks(tensors))


def read_tensors(path: Path, wanted: Sequence[str] | None) -> Mapping[str, _Tensor]:
    """Read a file in the format of its extension: all tensors, or all of `wanted`.

    Raises InvalidDataFile.
    """
    read = _READERS[check_ending(path)]
    if not path.is_file():
        raise InvalidDataFile(_("there is no file {path}").format(path=path))
    try:
        tensors = read(path, wanted)
    except OSError as error:
        raise InvalidDataFile(
            _("{path} cannot be read: {reason}").format(path=path, reason=error.strerror or error)
        ) from error
    missing = [name for name in wanted or () if name not in tensors]
    if missing:
        raise InvalidDataFile(
            _("{name} has no tensor {missing}").format(name=path.name, missing=missing[0]),
            hint=_(_SUFFIX_HINT),
        )
    if not tensors:
        raise InvalidDataFile(
            _("{name} has no tensors").format(name=path.name), hint=_(_SUFFIX_HINT)
        )
    return tensors


_READERS: Final[Mapping[str, _Reader]] = {".npz": read_npz, ".safetensors": read_safetensors}
