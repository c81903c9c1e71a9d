"""Files of samples: `.npz` or `.safetensors` with `x` [n, 1600] and `y` [n]. Never pickle."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from omega21.data.durable import opened_durably
from omega21.data.samples import Samples, check_form, check_samples
from omega21.data.sources.npz import read_npz
from omega21.data.sources.safetensors import FileTensor, read_safetensors
from omega21.language import N_, _
from omega21.protocol.errors import InvalidDataFile
from omega21.protocol.shards import pack

_SUFFIX_HINT: Final = N_("a data set is a .npz or .safetensors file with tensors x and y")
_CHECKED_ROWS: Final = 4096  # rows checked at a time: 26 MB of float32
_Tensor = NDArray[Any] | FileTensor
_Reader = Callable[[Path, Sequence[str]], Mapping[str, _Tensor]]


class DataFile:
    """A file of samples, opened by `open_data`.

    Rows of a `.safetensors` file are read on demand; a `.npz` file is read whole.
    """

    def __init__(self, path: Path, *, x: _Tensor, y: _Tensor) -> None:
        self.path = path
        self._x = x
        self._y = y

    def __len__(self) -> int:
        """Count the samples."""
        return len(self._x)

    def read(self, rows: slice | NDArray[np.int64]) -> Samples:
        """Read and check the given samples, in the order given, as float32.

        Raises InvalidSamples, naming the first invalid sample.
        """
        numbers = np.arange(len(self))[rows]
        with np.errstate(over="ignore"):  # values beyond float32 are reported by the check
            samples = Samples(
                np.asarray(self._x[rows], dtype=np.float32),
                np.asarray(self._y[rows], dtype=np.float32),
            )
        check_samples(samples, numbers=numbers)
        return samples

    def check(self) -> None:
        """Check every sample, with bounded memory. Raises InvalidSamples."""
        for start in range(0, len(self), _CHECKED_ROWS):
            self.read(slice(start, start + _CHECKED_ROWS))

    def sha256(self) -> str:
        """Digest of the file's bytes, 64 hexadecimal digits."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def open_data(path: str | Path) -> DataFile:
    """Open a file of samples and check its form; `DataFile.check` checks the values.

    Any integer or floating type is accepted and converted to float32. Raises InvalidDataFile
    for a file that is not a data set, InvalidSamples for one of another width or without samples.
    """
    path = Path(path)
    tensors = _read_tensors(path, ("x", "y"))
    check_form(tensors["x"], tensors["y"], error=InvalidDataFile)
    return DataFile(path, x=tensors["x"], y=tensors["y"])


def read_features(path: str | Path) -> NDArray[np.float32]:
    """Read the features of a file whose samples need no labels: `x` float32 [n, 1600].

    Raises InvalidDataFile and InvalidSamples as `open_data` and `DataFile.check` do.
    """
    path = Path(path)
    x = _read_tensors(path, ("x",))["x"]
    labels = np.zeros(len(x) if x.ndim else 0, dtype=np.float32)
    check_form(x, labels, error=InvalidDataFile)
    return DataFile(path, x=x, y=labels).read(slice(None)).x


def write_data(path: str | Path, samples: Samples) -> None:
    """Write a file of samples atomically, in the format of its extension; it is on disk on return.

    Raises InvalidDataFile for an unknown extension, InvalidSamples for invalid samples.
    """
    path = Path(path)
    suffix = check_ending(path)
    check_form(samples.x, samples.y)
    check_samples(samples)
    with opened_durably(path) as file:
        _write(file, suffix, samples)


def check_ending(path: Path) -> str:
    """Return the extension that decides a file's format, in lower case. Raises InvalidDataFile."""
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InvalidDataFile(
            _("{name} has an unknown extension").format(name=path.name), hint=_(_SUFFIX_HINT)
        )
    return suffix


def _write(file: BinaryIO, suffix: str, samples: Samples) -> None:
    if suffix == ".npz":
        np.savez(file, x=samples.x, y=samples.y)
    else:
        file.write(pack({"x": samples.x, "y": samples.y}))


def _read_tensors(path: Path, wanted: tuple[str, ...]) -> Mapping[str, _Tensor]:
    """Read a file in the format of its extension; all of `wanted` are in it."""
    read = _READERS[check_ending(path)]
    if not path.is_file():
        raise InvalidDataFile(_("there is no file {path}").format(path=path))
    try:
        tensors = read(path, wanted)
    except OSError as error:
        raise InvalidDataFile(
            _("{path} cannot be read: {reason}").format(path=path, reason=error.strerror or error)
        ) from error
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise InvalidDataFile(
            _("{name} has no tensor {missing}").format(name=path.name, missing=missing[0]),
            hint=_(_SUFFIX_HINT),
        )
    return tensors


_READERS: Final[Mapping[str, _Reader]] = {".npz": read_npz, ".safetensors": read_safetensors}
