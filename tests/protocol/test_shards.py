import json
import struct
import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from omega21.protocol.digests import DTYPE_NAMES, tensors_sha256
from omega21.protocol.errors import BodyTooLarge, InvalidShard
from omega21.protocol.shards import (
    MAX_SHARD_BYTES,
    MAX_SHARD_HEADER,
    Tensors,
    decode_shard,
    decompress,
    encode_shard,
    pack,
    read_header,
    shard_samples,
    unpack,
)

Array = NDArray[np.generic]

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,20}", fullmatch=True)
DIMS = st.lists(st.integers(0, 4), max_size=3)
PLANES = "omega21.planes"


def array_of(dtype: np.dtype[np.generic], shape: tuple[int, ...], seed: int) -> Array:
    """Make an array of any bits of its type, NaN and infinity among them."""
    rng = np.random.default_rng(seed)
    if dtype == np.dtype("?"):
        return rng.integers(0, 2, shape).astype(dtype)
    size = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(rng.bytes(size * dtype.itemsize), dtype=dtype).reshape(shape)


@st.composite
def shards(draw: st.DrawFn) -> dict[str, Array]:
    samples = draw(st.integers(1, 5))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    return {
        name: array_of(
            draw(st.sampled_from(sorted(DTYPE_NAMES, key=str))),
            (samples, *draw(DIMS)),
            draw(st.integers(0, 2**32)),
        )
        for name in names
    }


def assert_same(got: Tensors, expected: Tensors) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype.newbyteorder("<")
        assert got[name].shape == array.shape
        assert got[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


def file_of(header: Any, data: bytes = b"") -> bytes:
    """Write a safetensors file whose header is any JSON at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def plane_file(description: str, planes: Array) -> bytes:
    return pack({"x": planes}, {PLANES: json.dumps({"x": description})})


def refuses(body: bytes, *, compressed: bool = False) -> str:
    with pytest.raises(InvalidShard) as refused:
        decode_shard(body, compressed=compressed)
    return refused.value.message


VALID = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "y": np.ones(3, np.float32)}


class TestRoundTrip:
    @given(shards(), st.integers(1, 5))
    def test_as_byte_planes_in_a_zstd_frame(self, tensors: dict[str, Array], level: int) -> None:
        assert_same(decode_shard(encode_shard(tensors, level=level)), tensors)

    @given(shards())
    def test_as_a_plain_file(self, tensors: dict[str, Array]) -> None:
        assert_same(decode_shard(pack(tensors), compressed=False), tensors)

    @given(shards())
    def test_as_a_plain_file_in_a_zstd_frame(self, tensors: dict[str, Array]) -> None:
        assert_same(decode_shard(zstandard.compress(pack(tensors))), tensors)

    @given(shards())
    def test_every_form_is_the_same_shard(self, tensors: dict[str, Array]) -> None:
        name = tensors_sha256(tensors)
        assert tensors_sha256(decode_shard(encode_shard(tensors))) == name
        assert tensors_sha256(decode_shard(pack(tensors), compressed=False)) == name

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("dtype", ["<f4", ">f4", ">i8", "<f2", "u1"])
    def test_any_memory_layout(self, dtype: str, order: str) -> None:
        array = np.arange(24).reshape(4, 3, 2).astype(dtype, order=order)[::2]  # type: ignore[call-overload]
        assert_same(decode_shard(encode_shard({"x": array})), {"x": array})
        assert_same(decode_shard(pack({"x": array}), compressed=False), {"x": array})

    def test_counts_its_samples(self) -> None:
        assert shard_samples(decode_shard(encode_shard(VALID))) == 3


class TestSafetensorsLibrary:
    @given(shards())
    def test_reads_what_we_write(self, tensors: dict[str, Array]) -> None:
        assert_same(safetensors.numpy.load(pack(tensors)), tensors)

    @given(shards(), st.dictionaries(NAMES, st.text(max_size=5), max_size=3))
    def test_writes_what_we_read(self, tensors: dict[str, Array], metadata: dict[str, str]) -> None:
        contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        got, described = unpack(safetensors.numpy.save(contiguous, metadata))
        assert_same(got, tensors)
        assert described == metadata


def decodes_or_refuses(body: bytes, *, compressed: bool) -> None:
    """Whatever comes is a shard within bounds, or refused as one of these two errors."""
    try:
        tensors = decode_shard(body, compressed=compressed, max_bytes=4096)
    except (InvalidShard, BodyTooLarge):
        return
    assert sum(array.nbytes for array in tensors.values()) <= 4096 + MAX_SHARD_HEADER
    assert len({len(array) for array in tensors.values()}) == 1


BODIES = [encode_shard(VALID), zstandard.compress(pack(VALID)), pack(VALID)]
SIZES = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 2**31, 2**32, 2**47, 2**63, 2**64])
JSON = st.recursive(
    st.none() | st.booleans() | SIZES | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(sorted(DTYPE_NAMES.values())) | JSON,
        "shape": st.lists(SIZES, max_size=9) | JSON,
        "data_offsets": st.lists(st.integers(0, 40) | SIZES, max_size=3) | JSON,
    }
)
DESCRIPTIONS = st.dictionaries(
    st.sampled_from(["x", "y"]),
    st.builds(
        lambda kind, dims: f"{kind}:{','.join(map(str, dims))}",
        st.sampled_from(sorted(DTYPE_NAMES.values())),
        st.lists(SIZES | st.just(1), max_size=100),
    )
    | JSON,
)


class TestHostileBodies:
    @given(st.binary(max_size=200), st.booleans())
    def test_any_bytes(self, body: bytes, compressed: bool) -> None:
        decodes_or_refuses(body, compressed=compressed)

    @given(
        st.sampled_from(BODIES),
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
        st.integers(0, 400),
        st.binary(max_size=8),
        st.booleans(),
    )
    def test_mutated_bodies(
        self,
        body: bytes,
        flips: list[tuple[int, int]],
        cut: int,
        tail: bytes,
        compressed: bool,
    ) -> None:
        mutated = bytearray(body)
        for place, value in flips:
            mutated[place % len(mutated)] = value
        decodes_or_refuses(bytes(mutated[: len(mutated) - cut] + tail), compressed=compressed)

    @given(JSON | st.dictionaries(st.sampled_from(["x", "y", "-"]), ENTRIES | JSON))
    @example({"x": {"dtype": "F32", "shape": [0, 2**47, 2**47], "data_offsets": [0, 0]}})
    @example({"x": {"dtype": "F32", "shape": [2**24, 2**24, 2**24, 0], "data_offsets": [0, 0]}})
    def test_any_header(self, header: Any) -> None:
        decodes_or_refuses(file_of(header, bytes(24)), compressed=False)
        decodes_or_refuses(file_of(header), compressed=False)

    @given(DESCRIPTIONS | JSON, st.integers(0, 4))
    @example({"x": "F32:" + "1," * 100}, 1)
    @example({"x": "F32:0," + "9" * 30}, 0)
    @example({"x": f"F32:0,{2**62},{2**62}"}, 0)
    @example({"x": "F32:-1,-1"}, 1)
    def test_any_description_of_planes(self, description: Any, items: int) -> None:
        planes = np.zeros((4, items), np.uint8)
        body = pack({"x": planes}, {PLANES: json.dumps(description)})
        decodes_or_refuses(body, compressed=False)

    @pytest.mark.parametrize("depth", [10, 500, 900, 970, 990, 1000, 5000, 30_000])
    @pytest.mark.parametrize("place", ["header", "dtype", "shape", "planes"])
    def test_deep_nesting(self, depth: int, place: str) -> None:
        nest = "[" * depth + "]" * depth
        parts = {"header": '"x"', "dtype": '"F32"', "shape": "[1]", "planes": '"F32:1"'}
        parts[place] = nest
        entry = f'{{"dtype":{parts["dtype"]},"shape":{parts["shape"]},"data_offsets":[0,4]}}'
        text = f'{{"x":{entry}}}'
        if place == "header":
            text = nest
        if place == "planes":
            metadata = json.dumps({PLANES: f'{{"x":{nest}}}'})
            text = f'{{"__metadata__":{metadata},"x":{entry}}}'
        refuses(file_of(text.encode(), bytes(4)))

    def test_a_header_larger_than_it_may_be(self) -> None:
        padded = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
        text = padded.encode().ljust(MAX_SHARD_HEADER + 8)
        assert "header claims" in refuses(file_of(text, bytes(4)))
        assert "header claims" in refuses(struct.pack("<Q", 2**63) + b"{}")

    @pytest.mark.parametrize(
        ("spans", "size"),
        [
            ({"x": [0, 8], "y": [4, 8]}, 8),
            ({"x": [0, 4], "y": [8, 12]}, 12),
            ({"x": [0, 4], "y": [0, 4]}, 8),
            ({"x": [4, 8]}, 8),
            ({"x": [0, 4]}, 8),
            ({"x": [0, 4]}, 0),
            ({"x": [4, 0]}, 4),
        ],
    )
    def test_offsets_that_overlap_leave_a_gap_or_reach_out(
        self, spans: dict[str, list[int]], size: int
    ) -> None:
        header = {
            name: {"dtype": "F32", "shape": [(end - start) // 4], "data_offsets": [start, end]}
            for name, (start, end) in spans.items()
        }
        refuses(file_of(header, bytes(size)))

    @pytest.mark.parametrize(
        "change",
        [
            {"dtype": "F128"}, {"dtype": None}, {"dtype": ["F32"]}, {"shape": [True]},
            {"shape": [-1]}, {"shape": [1.0]}, {"shape": "1"}, {"shape": {"0": 1}},
            {"shape": [2]}, {"shape": [2**62]}, {"data_offsets": [0]}, {"data_offsets": [0, 4, 4]},
            {"data_offsets": [-4, 0]}, {"data_offsets": None},
        ],
        ids=repr,
    )  # fmt: skip
    def test_an_entry_that_is_wrong_in_one_place(self, change: Mapping[str, Any]) -> None:
        entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        decode_shard(file_of({"x": entry}, bytes(4)), compressed=False)
        refuses(file_of({"x": {**entry, **change}}, bytes(4)))

    @pytest.mark.parametrize("name", ["", "a-b", "a/b", "../x", "é", "1x", "x" * 129, "a b"])
    def test_a_name_that_is_none(self, name: str) -> None:
        entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        assert "not a tensor name" in refuses(file_of({name: entry}, bytes(4)))

    def test_too_many_tensors_or_none(self) -> None:
        many = {f"t{number}": np.ones(1, np.uint8) for number in range(33)}
        assert "has 1 to 32 tensors" in refuses(pack(many))
        assert "this one 0" in refuses(pack({}))

    @pytest.mark.parametrize(
        "tensors",
        [
            {"x": np.float32(1) * np.ones(())},
            {"x": np.ones((0, 3), np.float32)},
            {"x": np.ones((2, 3), np.float32), "y": np.ones(3, np.float32)},
        ],
        ids=["no dimension", "no samples", "unequal"],
    )
    def test_first_dimensions_that_do_not_fit(self, tensors: dict[str, Array]) -> None:
        assert "first dimension" in refuses(pack(tensors))

    def test_planes_that_are_not_what_they_are_said_to_be(self) -> None:
        for description in ("F32:2", "F64:1", "F32", "F31:1", "F32:x", "F32:-1,-1"):
            refuses(plane_file(description, np.zeros((4, 1), np.uint8)))
        refuses(plane_file("F32:1", np.zeros((4, 1), np.float32)))
        refuses(pack(VALID, {PLANES: json.dumps({"z": "F32:1"})}))


class TestZstdFrames:
    def test_one_that_does_not_say_its_size(self) -> None:
        frame = zstandard.ZstdCompressor(write_content_size=False).compress(pack(VALID))
        assert "does not state" in refuses(frame, compressed=True)

    def test_bytes_after_it(self) -> None:
        frame = encode_shard(VALID)
        refuses(frame + b"\0", compressed=True)
        refuses(frame + frame, compressed=True)

    def test_one_cut_short(self) -> None:
        frame = encode_shard(VALID)
        for length in range(len(frame)):
            refuses(frame[:length], compressed=True)

    def test_one_that_lies_about_its_size(self) -> None:
        for lie in (0, 5, 2**20):
            data = pack(VALID)
            frame = _frame_claiming(lie, zstandard.compress(data), actual=len(data))
            refuses(frame, compressed=True)

    @pytest.mark.parametrize("claimed", [MAX_SHARD_BYTES + 2**20, 2**40, 2**63, 2**64 - 3])
    def test_a_bomb_is_refused_before_it_is_opened(self, claimed: int) -> None:
        data = pack(VALID)
        frame = _frame_claiming(claimed, zstandard.compress(data), actual=len(data))
        assert _peak(lambda: _refused_as_too_large(frame)) < 2**20

    def test_a_real_bomb(self) -> None:
        frame = zstandard.compress(bytes(MAX_SHARD_BYTES + 2**20))
        assert len(frame) < 2**14
        assert _peak(lambda: _refused_as_too_large(frame)) < 2**20

    def test_what_is_made_of_a_body_is_bounded(self) -> None:
        frame = encode_shard({"x": np.zeros(2**18, np.float32)})
        assert _peak(lambda: decode_shard(frame, max_bytes=2**20)) < 5 * 2**20
        with pytest.raises(BodyTooLarge):
            decode_shard(frame, max_bytes=2**19)

    def test_a_plain_body_that_is_too_large(self) -> None:
        with pytest.raises(BodyTooLarge):
            decode_shard(bytes(2**17), max_bytes=2**10, compressed=False)

    @given(st.binary(max_size=500))
    def test_decompress_undoes_compress(self, data: bytes) -> None:
        assert decompress(zstandard.compress(data), max_bytes=500) == data


def _refused_as_too_large(frame: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        decode_shard(frame)


def _frame_claiming(claimed: int, frame: bytes, *, actual: int) -> bytes:
    """Rewrite a frame's header so that it claims another content size (RFC 8878, 3.1.1.1)."""
    parameters = zstandard.get_frame_parameters(frame)
    assert parameters.content_size == actual
    body = frame[zstandard.frame_header_size(frame) :]
    checksum = 0b100 if parameters.has_checksum else 0
    descriptor = bytes([0b11_0_00_0_00 | checksum])  # 8 bytes of size, a window, no dictionary
    return frame[:4] + descriptor + b"\x58" + struct.pack("<Q", claimed) + body


def _peak(act: Any) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_header_can_be_read_from_a_files_beginning() -> None:
    data = pack(VALID, {"key": "value"})
    header = data[: data.index(b"}}") + 40]
    spans, metadata = read_header(header, len(data))
    assert metadata == {"key": "value"}
    assert spans["x"].shape == (3, 2)
    assert data[spans["y"].offset :][: spans["y"].nbytes] == VALID["y"].tobytes()
