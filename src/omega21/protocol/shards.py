"""The shard codec: named tensors to bytes and back, without pickle and within bounds.

A shard travels as a safetensors file, compressed with zstd. Its float tensors are stored there as
byte planes: a tensor of n-byte items becomes a U8 tensor [n, items], all first bytes, then all
second bytes, and so on. The planes of signs and exponents compress well; the others do not, and
zstd skips them quickly. The header's metadata names each such tensor's type and
shape. A file without that metadata is read as plain safetensors.

A shard is named by its tensors (`tensors_sha256`), not by these bytes, so either form, at any
level of compression, is the same shard.
"""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray
from pydantic import Field

from omega21.language import _
from omega21.protocol.digests import DTYPE_NAMES
from omega21.protocol.errors import BodyTooLarge, InvalidShard
from omega21.protocol.messages import Reply, Request
from omega21.protocol.names import Sha256
from omega21.protocol.schema import Schema

MAX_SHARD_BYTES = 64 * 2**20
"""Maximum size of a shard's tensors, decompressed, in bytes."""

USUAL_SHARD_BYTES = 256 * 6404
"""Size of a shard's tensors in bytes, about: 256 samples of 1601 float32 numbers."""

MAX_SHARD_SAMPLES = 16_384
"""Maximum number of small samples in a shard: 8 shards are computed in one request."""

SHARD_MEDIA_TYPE = "application/vnd.safetensors"
ENCODING = "zstd"

MAX_SHARD_HEADER = 64 * 1024

_PLANES_KEY = "omega21.planes"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")
_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}

Tensors = Mapping[str, NDArray[np.generic]]


class MissingRequest(Request):
    """Asks which of these shards the server lacks."""

    shards: list[Sha256] = Field(max_length=10_000)


class MissingReply(Reply):
    """The shards that the server lacks, in the order asked."""

    missing: list[Sha256]


class ShardStored(Reply):
    """The server has the shard, on disk."""

    sha256: Sha256
    samples: int
    bytes: int
    stored: bool = Field(description="false when it was there before")


@dataclass(frozen=True)
class TensorSpan:
    """Type, shape and offset of a tensor in a safetensors file."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


def pack_chunks(
    tensors: Tensors, metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """Yield the chunks of a safetensors file of `tensors`, in name order, without copying them."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    arrays: list[NDArray[np.generic]] = []
    offset = 0
    for name in sorted(tensors):
        little = tensors[name].dtype.newbyteorder("<")
        array = np.ascontiguousarray(tensors[name], dtype=little)
        header[name] = {
            "dtype": DTYPE_NAMES[little],
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        arrays.append(array)
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for array in arrays:
        yield array.reshape(-1).view(np.uint8).data


def pack(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """Write a safetensors file of `tensors`, in name order, aligned to 8 bytes."""
    return b"".join(pack_chunks(tensors, metadata))


def read_header(
    start: bytes, total: int, *, max_header: int = MAX_SHARD_HEADER, max_tensors: int = 32
) -> tuple[dict[str, TensorSpan], dict[str, str]]:
    """Read the spans and the metadata of a safetensors file of `total` bytes.

    `start` is the file or at least its header. Raises InvalidShard.
    """
    if len(start) < 8:
        raise InvalidShard(_("the shard ends before its header"))
    (length,) = struct.unpack_from("<Q", start)
    if length > max_header or 8 + length > len(start):
        raise InvalidShard(_("the shard's header claims {length} bytes").format(length=length))
    try:
        header = json.loads(start[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise InvalidShard(_("the shard's header is not JSON")) from error
    if not isinstance(header, dict):
        raise InvalidShard(_("the shard's header is not a JSON object"))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise InvalidShard(_("the shard's metadata is not a map of texts"))
    if not 0 < len(header) <= max_tensors:
        raise InvalidShard(
            _("a shard has 1 to {most} tensors, this one {count}").format(
                most=max_tensors, count=len(header)
            )
        )
    base = 8 + length
    spans = {name: _read_span(name, entry, base) for name, entry in header.items()}
    end = base
    for name, span in sorted(spans.items(), key=lambda item: item[1].offset):
        if span.offset != end:
            raise InvalidShard(
                _("tensor {name!r} overlaps another or leaves a gap").format(name=name)
            )
        end += span.nbytes
    if end != total:
        raise InvalidShard(
            _("the shard has {total} bytes where its header says {end}").format(
                total=total, end=end
            )
        )
    return spans, metadata


def _read_span(name: str, entry: Any, base: int) -> TensorSpan:
    if not _NAME.fullmatch(name):
        raise InvalidShard(_("{name!r} is not a tensor name").format(name=name[:80]))
    if not isinstance(entry, dict):
        raise InvalidShard(_("tensor {name!r} is not described").format(name=name))
    dtype = _DTYPES.get(str(entry.get("dtype")))
    shape, offsets = _dims(entry.get("shape"), 8), _dims(entry.get("data_offsets"), 2)
    if dtype is None:
        raise InvalidShard(
            _("tensor {name!r} has type {kind!r}").format(
                name=name, kind=str(entry.get("dtype"))[:20]
            )
        )
    if shape is None or offsets is None or len(offsets) != 2:
        raise InvalidShard(_("tensor {name!r} has no valid shape or offsets").format(name=name))
    size = _nbytes(dtype, shape)
    if size is None:
        raise InvalidShard(_("tensor {name!r} is too large").format(name=name))
    if offsets[1] - offsets[0] != size:
        raise InvalidShard(
            _("tensor {name!r} has {found} bytes, not {size}").format(
                name=name, found=offsets[1] - offsets[0], size=size
            )
        )
    return TensorSpan(dtype, shape, base + offsets[0])


def _nbytes(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> int | None:
    """Return the size of a tensor in bytes; None for a shape that numpy does not support."""
    size = dtype.itemsize
    for dim in shape:
        size *= max(dim, 1)
        if size > 2**48:
            return None
    return 0 if 0 in shape else size


def _dims(value: Any, most: int) -> tuple[int, ...] | None:
    """Return a list of at most `most` natural numbers as a tuple; None for anything else."""
    if not isinstance(value, list) or len(value) > most:
        return None
    if not all(type(item) is int and 0 <= item < 2**48 for item in value):
        return None
    return tuple(value)


def unpack(data: bytes) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """Read a safetensors file from memory, without copying. Raises InvalidShard."""
    spans, metadata = read_header(data, len(data))
    tensors = {
        name: np.frombuffer(
            data, dtype=span.dtype, count=int(np.prod(span.shape, dtype=np.int64)),
            offset=span.offset,
        ).reshape(span.shape)
        for name, span in spans.items()
    }  # fmt: skip
    return tensors, metadata


def encode_shard(tensors: Tensors, *, level: int = 3) -> bytes:
    """Encode a shard for the wire: byte planes in a safetensors file in a zstd frame."""
    planes: dict[str, str] = {}
    stored: dict[str, NDArray[np.generic]] = {}
    for name, array in tensors.items():
        little = array.dtype.newbyteorder("<")
        if little.itemsize == 1:
            stored[name] = array
            continue
        items = np.ascontiguousarray(array, dtype=little).reshape(-1).view(np.uint8)
        stored[name] = items.reshape(-1, little.itemsize).T
        dims = ",".join(str(dim) for dim in array.shape)
        planes[name] = f"{DTYPE_NAMES[little]}:{dims}"
    metadata = {_PLANES_KEY: json.dumps(planes, separators=(",", ":"))} if planes else None
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
    return compressor.compress(pack(stored, metadata))


def decompress(body: bytes, *, max_bytes: int) -> bytes:
    """Decompress zstd, refusing in advance what would exceed `max_bytes`.

    Raises BodyTooLarge, or InvalidShard when `body` is not exactly one complete frame that states
    its content size.
    """
    try:
        size = zstandard.frame_content_size(body)
    except zstandard.ZstdError as error:
        raise InvalidShard(_("the body is not a zstd frame")) from error
    if size < 0:
        raise InvalidShard(
            _("the zstd frame does not state its content size"),
            hint=_("compress it as one frame, with the content size in the header"),
        )
    if size > max_bytes:
        raise BodyTooLarge(
            _("the body decompresses to {size} bytes, the limit is {most}").format(
                size=size, most=max_bytes
            ),
            hint=_("send smaller bodies"),
        )
    try:
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InvalidShard(
            _("the zstd frame is damaged, truncated, or has bytes after it")
        ) from error


def decode_shard(
    body: bytes, *, max_bytes: int = MAX_SHARD_BYTES, compressed: bool = True
) -> dict[str, NDArray[np.generic]]:
    """Decode a shard from the wire, in either form. Raises InvalidShard, BodyTooLarge."""
    room = max_bytes + MAX_SHARD_HEADER
    if len(body) > room:
        raise BodyTooLarge(
            _("the shard has {size} bytes, the limit is {most}").format(size=len(body), most=room)
        )
    data = decompress(body, max_bytes=room) if compressed else body
    tensors, metadata = unpack(data)
    for name, (dtype, shape) in _read_planes(metadata, tensors).items():
        items = np.ascontiguousarray(tensors[name].T)
        tensors[name] = items.reshape(-1).view(dtype).reshape(shape)
    _check_first_dimension(tensors)
    return tensors


def _read_planes(
    metadata: Mapping[str, str], tensors: Tensors
) -> dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]]:
    try:
        planes = json.loads(metadata.get(_PLANES_KEY, "{}"))
        found = {name: str(text).split(":", 1) for name, text in planes.items()}
        parsed = {
            name: (_DTYPES[kind], _dims([int(dim) for dim in dims.split(",") if dim], 8))
            for name, (kind, dims) in found.items()
        }
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidShard(_("the shard's planes are not described")) from error
    planes_of: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]] = {}
    for name, (dtype, shape) in parsed.items():
        size = None if shape is None else _nbytes(dtype, shape)
        if shape is None or size is None:
            raise InvalidShard(_("tensor {name!r} has no valid shape").format(name=name))
        array, planes_shape = tensors.get(name), (dtype.itemsize, size // dtype.itemsize)
        if array is None or array.dtype != np.uint8 or array.shape != planes_shape:
            raise InvalidShard(
                _("tensor {name!r} is not the planes that the header describes").format(name=name)
            )
        planes_of[name] = dtype, shape
    return planes_of


def _check_first_dimension(tensors: Tensors) -> None:
    firsts = {array.shape[:1] for array in tensors.values()}
    if len(firsts) != 1 or firsts in ({()}, {(0,)}):
        raise InvalidShard(_("the tensors of a shard have one equal, positive first dimension"))


def samples_per_shard(schema: Schema) -> int:
    """Return the number of samples in each shard of a segment, except its last one.

    A function of the schema alone: equal samples always make equal shards, also where they are
    sent as float16.
    """
    return max(1, min(MAX_SHARD_SAMPLES, USUAL_SHARD_BYTES // schema.sample_bytes))


def shard_samples(tensors: Tensors) -> int:
    """Return the number of samples in a decoded shard."""
    return len(next(iter(tensors.values())))
