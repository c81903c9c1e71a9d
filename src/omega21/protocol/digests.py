"""Digests of named tensors (shards, weights), of plans, and of a run's results as a chain."""

import hashlib
import struct
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

DTYPE_NAMES: dict[np.dtype[np.generic], str] = {
    np.dtype("<f4"): "F32",
    np.dtype("<f2"): "F16",
    np.dtype("<f8"): "F64",
    np.dtype("<i8"): "I64",
    np.dtype("<i4"): "I32",
    np.dtype("<i2"): "I16",
    np.dtype("i1"): "I8",
    np.dtype("u1"): "U8",
    np.dtype("?"): "BOOL",
}
"""The tensor types on the wire, by their safetensors names."""

CHAIN_START = "0" * 32
"""The chained digest of a run without results."""


def tensors_sha256(tensors: Mapping[str, NDArray[np.generic]]) -> str:
    """Return the digest of named tensors.

    SHA-256 over name, type, shape and little-endian C-order bytes of each tensor, in name order,
    as 64 hexadecimal digits. Independent of how they are stored or sent.
    """
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        little = array.dtype.newbyteorder("<")
        dims = ",".join(str(dim) for dim in array.shape)
        hasher.update(f"{name}\0{DTYPE_NAMES[little]}\0{dims}\n".encode())
        contiguous = np.ascontiguousarray(array, dtype=little)
        hasher.update(contiguous.reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def chain_result(previous: str, step: int, loss: float | None) -> str:
    """Extend the chained digest of a run's results by one step.

    `loss` is a float32 value, or None for a step that did not count. The first 128 bits of
    SHA-256 over the previous digest, the step and the loss's bits, as 32 hexadecimal digits.
    """
    bits = b"refused" if loss is None else struct.pack("<f", loss)
    content = bytes.fromhex(previous) + struct.pack("<Q", step) + bits
    return hashlib.sha256(content).hexdigest()[:32]


def documents_sha256(documents: Iterable[str]) -> str:
    """Digest texts in order, each with its length as a prefix, as 64 hexadecimal digits."""
    hasher = hashlib.sha256()
    for text in documents:
        encoded = text.encode()
        hasher.update(struct.pack("<Q", len(encoded)))
        hasher.update(encoded)
    return hasher.hexdigest()
