"""Arrays of a `.npz` file, with sizes checked before anything is decompressed. Never pickle.

A `.npz` file is a ZIP archive of `.npy` members (NEP 1). An archive's claims are checked
against its bytes: a member's shape against its size, its size against the maximum that its
compressed bytes can expand to.
"""

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from omega21.language import _
from omega21.protocol.errors import InvalidDataFile
from omega21.protocol.schema import MAX_TENSORS

_METHODS: Final = {
    zipfile.ZIP_STORED: 1,
    zipfile.ZIP_DEFLATED: 1032,
    zipfile.ZIP_BZIP2: 50_000,
    zipfile.ZIP_LZMA: 50_000,
}
"""Compression methods that Python reads, and their maximum expansion, in bytes for a byte."""
_ENCRYPTED: Final = 0x1
_PIECE: Final = 1 << 20
_DAMAGE: Final = (
    EOFError,
    ValueError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OverflowError,
    NotImplementedError,
    SyntaxError,
    RecursionError,
    tokenize.TokenError,  # numpy reads the header of version 1 as Python might have written it
)
"""Exceptions of zipfile and numpy for malformed bytes."""


def read_npz(path: Path, wanted: Sequence[str] | None) -> Mapping[str, NDArray[Any]]:
    """Read the wanted arrays that the file has, or all. Raises InvalidDataFile, OSError."""
    try:
        with path.open("rb") as file, _opened(file, path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if wanted is None:
                wanted = _names(members, path)
            found = {name: members.get(f"{name}.npy") for name in wanted}
            size = path.stat().st_size
            return {
                name: _read_member(archive, info, size=size, path=path)
                for name, info in found.items()
                if info is not None
            }
    except _DAMAGE as error:
        raise InvalidDataFile(
            _("{name} is not a .npz file of plain tensors: {reason}").format(
                name=path.name, reason=str(error) or type(error).__name__
            ),
            hint=_("write it again with numpy.savez, from arrays of numbers"),
        ) from error
    except MemoryError as error:
        raise InvalidDataFile(
            _("{name} does not fit in this machine's memory").format(name=path.name),
            hint=_("write it as .safetensors, which is read in parts"),
        ) from error


def _names(members: Mapping[str, zipfile.ZipInfo], path: Path) -> list[str]:
    """Return the names of all arrays. Raises InvalidDataFile where there are too many."""
    names = [name.removesuffix(".npy") for name in members if name.endswith(".npy")]
    if len(names) > MAX_TENSORS:
        raise InvalidDataFile(
            _("{name} has {count} tensors, a sample has at most {most}").format(
                name=path.name, count=len(names), most=MAX_TENSORS
            )
        )
    return names


def _opened(file: IO[bytes], path: Path) -> zipfile.ZipFile:
    if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
        raise InvalidDataFile(
            _("{name} is not a .npz file but a single tensor").format(name=path.name)
        )
    return zipfile.ZipFile(file)


def _read_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, size: int, path: Path
) -> NDArray[Any]:
    """Read one array. Raises ValueError if its header claims more than its bytes can hold."""
    if info.flag_bits & _ENCRYPTED:
        raise InvalidDataFile(
            _("{name} is protected by a password").format(name=path.name),
            hint=_("write it again without one, with numpy.savez"),
        )
    if info.compress_type not in _METHODS:
        raise InvalidDataFile(
            _("{name} is compressed by a method that Python cannot read (ZIP method {method})")
            .format(name=path.name, method=info.compress_type),
            hint=_("write it again with numpy.savez or numpy.savez_compressed"),
        )  # fmt: skip
    most = info.compress_size * _METHODS[info.compress_type] + 1024
    if info.compress_size > size or info.file_size > most:
        raise ValueError(
            _("its member {member} claims {bytes} bytes, more than the file can contain").format(
                member=info.filename, bytes=info.file_size
            )
        )
    with archive.open(info) as member:
        shape, fortran, dtype = _read_header(member)
        start = member.tell()
        expected = prod(shape) * dtype.itemsize
        if expected != info.file_size - start:
            raise ValueError(
                _("its member {member} has shape {shape}, which takes {bytes} bytes, not {found}")
                .format(
                    member=info.filename,
                    shape=list(shape),
                    bytes=expected,
                    found=info.file_size - start,
                )
            )  # fmt: skip
        array = _read_items(member, expected).view(dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(member)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    read = readers.get(version)
    if read is None:
        raise ValueError(_("its arrays are of .npy version {version}").format(version=version))
    shape, fortran, dtype = read(member)
    if dtype.hasobject:
        raise ValueError(_("it contains Python objects"))
    if any(dim < 0 for dim in shape):
        raise ValueError(_("a shape is negative"))
    return shape, fortran, dtype


def _read_items(member: IO[bytes], size: int) -> NDArray[np.uint8]:
    """Read exactly `size` bytes, and the member to its end, where its checksum is compared."""
    items = np.empty(size, dtype=np.uint8)
    place = 0
    while piece := member.read(_PIECE):
        if place + len(piece) > size:
            raise ValueError(_("a member is longer than its header says"))
        items[place : place + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        place += len(piece)
    if place != size:
        raise ValueError(_("a member is shorter than its header says"))
    return items
