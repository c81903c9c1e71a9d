import hashlib
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.protocol.digests import (
    CHAIN_START,
    DTYPE_NAMES,
    chain_result,
    documents_sha256,
    tensors_sha256,
)

X = np.arange(6, dtype="<f4").reshape(2, 3)
Y = np.array([0, 1], dtype="<f4")


class TestTensors:
    def test_the_naming_rule_is_fixed(self) -> None:
        """A change of this value renames every shard there is, on every machine."""
        name = "be145ab41a415a7d9ab55048a542b27db1e9d338e85a3ce0b55df2eeb3594003"
        assert tensors_sha256({"x": X, "y": Y}) == name

    def test_as_documented(self) -> None:
        content = b"x\0F32\x002,3\n" + X.tobytes() + b"y\0F32\x002\n" + Y.tobytes()
        assert tensors_sha256({"y": Y, "x": X}) == hashlib.sha256(content).hexdigest()

    def test_the_order_of_names_does_not_matter(self) -> None:
        assert tensors_sha256({"x": X, "y": Y}) == tensors_sha256({"y": Y, "x": X})

    @pytest.mark.parametrize("dtype", sorted(DTYPE_NAMES, key=str))
    def test_neither_byte_order_nor_layout_matters(self, dtype: np.dtype[np.generic]) -> None:
        array = X.astype(dtype)
        name = tensors_sha256({"x": array})
        assert tensors_sha256({"x": array.astype(dtype.newbyteorder(">"))}) == name
        assert tensors_sha256({"x": np.asfortranarray(array)}) == name
        assert tensors_sha256({"x": np.repeat(array, 2, axis=0)[::2]}) == name

    def test_all_else_matters(self) -> None:
        changed = X.copy()
        changed.view(np.uint8)[1, 5] ^= 1
        names = {
            tensors_sha256(tensors)
            for tensors in (
                {"x": X}, {"z": X}, {"x": X.reshape(3, 2)}, {"x": X.reshape(6)}, {"x": changed},
                {"x": X.view("<i4")}, {"x": X, "y": Y}, {"x": X[:1]}, {"x": X[:0]}, {},
            )
        }  # fmt: skip
        assert len(names) == 10

    def test_a_scalar_has_no_dimensions(self) -> None:
        scalar = np.array(1, "<f4")
        content = b"x\0F32\0\n" + scalar.tobytes()
        assert tensors_sha256({"x": scalar}) == hashlib.sha256(content).hexdigest()

    def test_negative_zero_is_another_value(self) -> None:
        zero = np.zeros(1, np.float32)
        assert tensors_sha256({"x": zero}) != tensors_sha256({"x": -zero})


class TestChain:
    def test_the_rule_is_fixed(self) -> None:
        first = chain_result(CHAIN_START, 1, 0.5)
        assert first == "992bd4eea0ad8bab3f628bba47923ac5"
        assert chain_result(first, 2, None) == "f04d473a5896b354b84bc814d5d37ea7"

    def test_as_documented(self) -> None:
        content = bytes(16) + (1).to_bytes(8, "little") + struct.pack("<f", 0.5)
        assert chain_result(CHAIN_START, 1, 0.5) == hashlib.sha256(content).hexdigest()[:32]

    @given(st.floats(width=32), st.floats(width=32))
    def test_it_tells_losses_apart_by_their_bits(self, one: float, other: float) -> None:
        same_bits = struct.pack("<f", one) == struct.pack("<f", other)
        digests_equal = chain_result(CHAIN_START, 1, one) == chain_result(CHAIN_START, 1, other)
        assert digests_equal == same_bits

    def test_it_depends_on_all_before_it(self) -> None:
        one, other = chain_result(CHAIN_START, 1, 0.5), chain_result(CHAIN_START, 1, 0.25)
        assert chain_result(one, 2, 1.0) != chain_result(other, 2, 1.0)
        assert chain_result(one, 2, 1.0) != chain_result(one, 3, 1.0)
        assert chain_result(one, 2, None) != chain_result(one, 2, math.nan)


class TestDocuments:
    @given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
    def test_only_equal_lists_have_equal_digests(self, one: list[str], other: list[str]) -> None:
        assert (documents_sha256(one) == documents_sha256(other)) == (one == other)

    def test_the_rule_is_fixed(self) -> None:
        content = b"\1" + bytes(7) + b"a" + b"\2" + bytes(7) + "é".encode()
        assert documents_sha256(["a", "é"]) == hashlib.sha256(content).hexdigest()
