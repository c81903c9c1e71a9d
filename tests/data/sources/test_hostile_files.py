"""Data files as they come back from the world: locked, damaged, claiming what they do not hold."""

import contextlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from omega21.data.sources.files import open_data, read_inputs
from omega21.models.registry import default_config
from omega21.protocol.errors import InvalidDataFile, OmegaError

SCHEMA = default_config().sample_schema
X = np.random.default_rng(0).normal(size=(6, 1600)).astype(np.float32)
Y = np.array([0, 1, 0, 0, 1, 0], np.float32)


def npz(compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, array in (("x", X), ("y", Y)):
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(f"{name}.npy", member.getvalue())
    return file.getvalue()


def patched(data: bytes, *, local: tuple[int, bytes], central: tuple[int, bytes]) -> bytes:
    """The archive with some bytes of each member's two headers replaced."""
    changed = bytearray(data)
    for mark, (offset, value) in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        place = changed.find(mark)
        while place >= 0:
            changed[place + offset : place + offset + len(value)] = value
            place = changed.find(mark, place + 4)
    return bytes(changed)


def with_method(method: int) -> bytes:
    number = struct.pack("<H", method)
    return patched(npz(), local=(8, number), central=(10, number))


def locked() -> bytes:
    return patched(npz(), local=(6, b"\x01"), central=(8, b"\x01"))


def with_header(shape: str, kind: str = "<f4") -> bytes:
    """An archive whose x says that it has another shape or type than its bytes."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + X.tobytes()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", member)
    return file.getvalue()


def claiming_large() -> bytes:
    size = struct.pack("<I", 0xFFFF_FF00)
    return patched(npz(), local=(22, size), central=(24, size))


def with_damage(method: int) -> bytes:
    data = bytearray(npz(method))
    data[200:216] = b"\xff" * 16
    return bytes(data)


def safetensors(header: bytes | None = None, *, length: int | None = None) -> bytes:
    data = save({"x": X, "y": Y})
    if header is None and length is None:
        return data
    first = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + first] if header is None else header
    size = len(header) if length is None else length
    return size.to_bytes(8, "little") + header + data[8 + first :]


def described(**tensors: object) -> bytes:
    return safetensors(json.dumps(tensors).encode())


HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "locked": (".npz", locked, "password"),
    "deflate64": (".npz", lambda: with_method(9), "ZIP method 9"),
    "aes": (".npz", lambda: with_method(99), "ZIP method 99"),
    "shape of 64 TB": (".npz", lambda: with_header("(10995116277, 1600)"), "takes"),
    "10^12 rows of nothing": (".npz", lambda: with_header("(1000000000000, 0)"), "takes"),
    "shape beyond any number": (".npz", lambda: with_header("(10**30,)"), "plain tensors"),
    "negative shape": (".npz", lambda: with_header("(-6, -1600)"), "negative"),
    "objects": (".npz", lambda: with_header("(6, 1600)", "|O"), "plain tensors"),
    "header that is code": (".npz", lambda: with_header("__import__('os')"), "plain tensors"),
    "size of 4 GB": (".npz", claiming_large, "claims"),
    "damaged": (".npz", lambda: with_damage(zipfile.ZIP_DEFLATED), "plain tensors"),
    "damaged LZMA": (".npz", lambda: with_damage(zipfile.ZIP_LZMA), "plain tensors"),
    "damaged BZIP2": (".npz", lambda: with_damage(zipfile.ZIP_BZIP2), "Invalid data stream"),
    "damaged, stored": (".npz", lambda: with_damage(zipfile.ZIP_STORED), "plain tensors"),
    "cut": (".npz", lambda: npz()[:-30], "plain tensors"),
    "header of 2^63": (".safetensors", lambda: safetensors(length=2**63), "claims"),
    "no JSON": (".safetensors", lambda: safetensors(b"[[["), "not a safetensors file"),
    "deep JSON": (".safetensors", lambda: safetensors(b"[" * 200_000), "not a safetensors file"),
    "no UTF-8": (".safetensors", lambda: safetensors(b'{"\xff": 1}'), "not a safetensors file"),
    "a list": (".safetensors", lambda: safetensors(b"[]"), "not an object"),
    "float8": (
        ".safetensors",
        lambda: described(x={"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}),
        "type F8_E4M3",
    ),
    "a tensor of nothing": (".safetensors", lambda: described(x=None), "no valid shape"),
    "offsets beyond the file": (
        ".safetensors",
        lambda: described(x={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}),
        "does not fit",
    ),
    "a shape of a million digits": (
        ".safetensors",
        lambda: safetensors(b'{"x": {"dtype": "F32", "shape": [' + b"9" * 10**6 + b"]}}"),
        "not a safetensors file",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_named_before_its_claims_take_memory(tmp_path: Path, name: str) -> None:
    suffix, make, words = HOSTILE[name]
    path = tmp_path / f"set{suffix}"
    path.write_bytes(make())

    with pytest.raises(InvalidDataFile, match=words) as caught:
        read_inputs(path, SCHEMA.inputs)

    assert path.name in str(caught.value)


def test_every_change_of_a_byte_is_read_or_named(tmp_path: Path) -> None:
    """No byte of a file's headers makes another exception than ours."""
    rng = np.random.default_rng(7)
    for suffix, whole in ((".npz", npz()), (".safetensors", safetensors())):
        path = tmp_path / f"set{suffix}"
        places = np.concatenate([np.arange(160), len(whole) - 1 - np.arange(160)])
        for place in rng.permutation(places)[:120]:
            changed = bytearray(whole)
            changed[place] ^= int(rng.integers(1, 256))
            path.write_bytes(changed)
            with contextlib.suppress(OmegaError):
                assert open_data(path, SCHEMA).read(slice(None))["x"].shape == X.shape


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [">f4", "<f8", ">i2", "|b1"])
def test_any_layout_of_numbers_is_read(tmp_path: Path, order: Any, kind: str) -> None:
    x = np.array(X * 8, dtype=kind, order=order)
    np.savez_compressed(tmp_path / "set.npz", x=x, y=Y)

    assert np.array_equal(
        open_data(tmp_path / "set.npz", SCHEMA).read(slice(None))["x"], x.astype("f4")
    )


def test_bfloat16_is_read_exactly_and_other_tensors_do_not_matter(tmp_path: Path) -> None:
    exact = (X.view(np.uint32) & 0xFFFF_0000).view(np.float32)
    halves = (exact.view(np.uint32) >> 16).astype("<u2")
    size = halves.nbytes
    header = json.dumps(
        {
            "__metadata__": {"epoch": 3},
            "a/b": {"dtype": "F8_E5M2", "shape": [2], "data_offsets": [size + 24, size + 26]},
            "x": {"dtype": "BF16", "shape": [6, 1600], "data_offsets": [0, size]},
            "y": {"dtype": "F32", "shape": [6], "data_offsets": [size, size + 24]},
        }
    ).encode()
    body = halves.tobytes() + Y.tobytes() + b"ab"
    (tmp_path / "set.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + body)

    read = open_data(tmp_path / "set.safetensors", SCHEMA).read(np.array([4, 0, 1]))

    assert np.array_equal(read["x"], exact[[4, 0, 1]])
    assert np.array_equal(read["y"], Y[[4, 0, 1]])


@pytest.mark.parametrize("change", ["cut", "written", "replaced"])
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path, change: str) -> None:
    path = tmp_path / "set.safetensors"
    path.write_bytes(safetensors())
    data = open_data(path, SCHEMA)
    assert data.read(slice(0, 2))["x"].shape == (2, 1600)
    if change == "cut":
        os.truncate(path, 5000)
    elif change == "written":
        path.write_bytes(safetensors() + b"more")
    else:
        (tmp_path / "new").write_bytes(safetensors())
        os.utime(tmp_path / "new", (1, 1))
        (tmp_path / "new").replace(path)

    with pytest.raises(InvalidDataFile, match="changed while it was read"):
        data.read(slice(2, 6))
