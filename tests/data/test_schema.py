"""Samples of any schema: found, converted, checked, and named where they do not fit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.data.samples import as_inputs, as_samples, as_type, to_schema
from omega21.data.schema import check_stored, find_schema, narrowed
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import InvalidSamples
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.shards import (
    MAX_SHARD_BYTES,
    MAX_SHARD_SAMPLES,
    USUAL_SHARD_BYTES,
    decode_shard,
    encode_shard,
    samples_per_shard,
)
from tests.schemas import TYPES, Array, make_tensors, schemas

IMAGES = Schema(
    inputs={"image": TensorSpec(dtype="uint8", shape=(3, 8, 8))},
    targets={"label": TensorSpec(dtype="int64")},
)


def one(dtype: str, *shape: int) -> Schema:
    """Describe samples of one input, x."""
    return Schema.model_validate({"inputs": {"x": {"dtype": dtype, "shape": shape}}})


def _fits(values: Array, wanted: str) -> bool:
    """Whether each number is one of a type, or rounded to one."""
    numbers = [number for row in values.tolist() for number in row]
    if wanted == "bool":
        return all(number in {0, 1} for number in numbers)
    if wanted.startswith("float"):
        return all(abs(number) < float(np.finfo(wanted).max) for number in numbers)
    limits = np.iinfo(wanted)
    return all(number == int(number) and limits.min <= number <= limits.max for number in numbers)


class TestFound:
    @given(schemas(), st.integers(1, 4))
    def test_of_tensors_as_they_are(self, schema: Schema, samples: int) -> None:
        tensors = make_tensors(schema, samples)
        found = find_schema(tensors, tuple(schema.targets))
        expected = {
            name: "float32" if spec.dtype == "float64" else spec.dtype
            for name, spec in schema.tensors.items()
        }
        assert {name: spec.dtype for name, spec in found.tensors.items()} == expected
        assert {n: s.shape for n, s in found.tensors.items()} == {
            n: s.shape for n, s in schema.tensors.items()
        }
        assert found.targets.keys() == schema.targets.keys()
        doubles = [name for name, spec in schema.tensors.items() if spec.dtype == "float64"]
        assert narrowed(tensors) == sorted(doubles)

    @pytest.mark.parametrize(
        ("given_type", "found"),
        [
            ("<f8", "float32"),
            (">f4", "float32"),
            ("<u2", "int32"),
            ("<u4", "int64"),
            ("<u8", "int64"),
            ("?", "bool"),
            ("i1", "int8"),
        ],
    )
    def test_types_that_samples_do_not_have_become_others(
        self, given_type: str, found: str
    ) -> None:
        assert find_schema({"x": np.zeros((2, 3), given_type)}).inputs["x"].dtype == found

    def test_y_is_the_target_where_nothing_is_said(self) -> None:
        x = np.zeros((2, 3))
        assert list(find_schema({"x": x, "y": x}).targets) == ["y"]
        assert list(find_schema({"x": x, "z": x}).targets) == []
        assert list(find_schema({"x": x, "y": x}, ()).inputs) == ["x", "y"]
        assert list(find_schema({"x": x, "z": x}, ("z",)).targets) == ["z"]

    @pytest.mark.parametrize(
        ("tensors", "targets", "words"),
        [
            ({"x": np.zeros(3, "U4")}, None, "tensor x has type <U4, not a numeric one"),
            ({"x": np.zeros(3, complex)}, None, "complex128, not a numeric one"),
            ({"x": np.zeros(())}, None, "tensor x is a single number"),
            ({"x": np.zeros((3, 0))}, None, r"tensor x has type float64 and shape \[3, 0\]"),
            ({"x": np.zeros((1,) * 9)}, None, "tensor x has type float64 and shape"),
            ({"a-b": np.zeros(3)}, None, "these tensors are no samples: inputs.a-b"),
            ({"y": np.zeros(3)}, None, "no input"),
            ({"x": np.zeros(3)}, ("z",), "no tensor 'z' that could be a target"),
            ({f"x{n}": np.zeros(3) for n in range(33)}, None, "at most 32 tensors"),
        ],
    )
    def test_what_is_no_sample_is_named(
        self, tensors: dict[str, Any], targets: tuple[str, ...] | None, words: str
    ) -> None:
        with pytest.raises(InvalidSamples, match=words):
            find_schema(tensors, targets)


def test_a_message_is_short_however_many_names_there_are_and_however_long() -> None:
    many = {f"{number:03}{'x' * 500}": np.zeros(2) for number in range(200)}
    for targets, tensors in ((("z",), many), (None, {"x" * 10**6: np.zeros(2)})):
        with pytest.raises(InvalidSamples) as caught:
            find_schema(tensors, targets)
        assert len(str(caught.value)) < 1200


class TestConverted:
    @given(schemas(), st.integers(1, 4))
    def test_samples_of_the_schema_stay_what_they_are(self, schema: Schema, samples: int) -> None:
        tensors = make_tensors(schema, samples)
        whole = as_samples({**tensors, "another": np.zeros(1)}, schema)
        assert list(whole) == list(schema.tensors)
        assert tensors_sha256(whole) == tensors_sha256(tensors)
        inputs = as_inputs({name: tensors[name] for name in schema.inputs}, schema)
        assert list(inputs) == list(schema.inputs)
        if len(inputs) == 1:
            ((name, array),) = inputs.items()
            np.testing.assert_array_equal(as_inputs(tensors[name], schema)[name], array)

    @given(st.sampled_from(TYPES), st.sampled_from(TYPES), st.integers(0, 2**32))
    def test_a_value_is_kept_or_named(self, stored: str, wanted: str, seed: int) -> None:
        """Only floats are rounded, and only to what is finite."""
        given = make_tensors(one(stored, 2), 3, seed=seed)
        fits = _fits(given["x"], wanted)
        if not fits:
            with pytest.raises(InvalidSamples, match=f"of x does not fit in {wanted}, sample"):
                to_schema(given, one(wanted, 2).inputs)
            return
        (array,) = to_schema(given, one(wanted, 2).inputs).values()
        assert array.dtype.name == wanted
        if array.dtype.kind != "f":
            np.testing.assert_array_equal(array, given["x"])

    @pytest.mark.parametrize(
        ("values", "dtype", "sample"),
        [
            ([0, 1, 2], "bool", 2),
            ([0.0, 0.5], "int64", 1),
            ([0.0, np.nan], "int32", 1),
            ([0.0, np.inf], "uint8", 1),
            ([255, 256], "uint8", 1),
            ([5, -1], "uint8", 1),
            ([0, 2**64 - 1], "int64", 1),
            ([1.0, 1e39], "float32", 1),
            ([1.0, 1e5], "float16", 1),
        ],
    )
    def test_the_first_sample_that_does_not_fit_is_named(
        self, values: list[float], dtype: str, sample: int
    ) -> None:
        array = np.array(values, "u8") if 2**64 - 1 in values else np.array(values)
        with pytest.raises(InvalidSamples, match=f"does not fit in {dtype}, sample {sample}"):
            as_samples({"x": array}, one(dtype))
        numbers = np.array([70, 80, 90])[: len(array)]
        with pytest.raises(InvalidSamples, match=f"sample {numbers[sample]}"):
            to_schema({"x": array}, one(dtype).inputs, numbers=numbers)

    def test_what_is_not_finite_stays(self) -> None:
        """A task of the user's own may mark missing values with it."""
        x = np.array([[np.nan, np.inf]])
        np.testing.assert_array_equal(as_samples({"x": x}, one("float32", 2))["x"], x)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (np.zeros((3, 2)), r"a map of arrays or a pair \(x, y\), got ndarray"),
            (5, "a map of arrays or a pair"),
            ({"image": np.zeros((2, 3, 8, 8))}, "no tensor 'label'"),
            (
                {"image": np.zeros((2, 8, 8)), "label": [0, 1]},
                r"image has shape \[2, 8, 8\], expected \[n, 3, 8, 8\]",
            ),
            (
                {"image": np.zeros((2, 3, 8, 8)), "label": [0]},
                "different numbers of samples: image 2, label 1",
            ),
            ({"image": np.zeros((0, 3, 8, 8)), "label": []}, "no samples"),
            ({"image": [[1], [1, 2]], "label": [0]}, "image is not an array of numbers"),
            ({"image": np.zeros((2, 3, 8, 8), "U1"), "label": [0, 1]}, "not a numeric one"),
        ],
    )
    def test_what_does_not_fit_the_schema_is_named(self, given: Any, words: str) -> None:
        with pytest.raises(InvalidSamples, match=words):
            as_samples(given, IMAGES)


class TestInShards:
    @given(schemas(), st.integers(1, 4))
    def test_a_shard_of_any_schema_is_sent_and_checked(self, schema: Schema, samples: int) -> None:
        tensors = make_tensors(schema, samples)
        sent = decode_shard(encode_shard(tensors))
        assert tensors_sha256(sent) == tensors_sha256(tensors)
        check_stored(sent, schema.tensors, schema, samples_type="float32")

    @given(schemas(), st.integers(1, 4))
    def test_float16_rounds_float32_inputs_alone(self, schema: Schema, samples: int) -> None:
        tensors = make_tensors(schema, samples)
        halved = as_type(tensors, "float16", schema=schema)
        check_stored(halved, schema.tensors, schema, samples_type="float16")
        for name, spec in schema.tensors.items():
            rounded = spec.dtype == "float32" and name in schema.inputs
            assert halved[name].dtype == ("float16" if rounded else spec.numpy_type)
            if not rounded:
                np.testing.assert_array_equal(halved[name], tensors[name])
        if any(spec.dtype == "float32" for spec in schema.inputs.values()):
            with pytest.raises(InvalidSamples, match=r"tensor \w+ has type float16"):
                check_stored(halved, schema.tensors, schema, samples_type="float32")

    @pytest.mark.parametrize("wrong", ["float64", "float16", "int32"])
    def test_another_type_is_named(self, wrong: str) -> None:
        schema = one("float32", 2)
        with pytest.raises(InvalidSamples, match=f"tensor x has type {wrong}, expected float32"):
            check_stored(
                {"x": np.zeros((1, 2), wrong)}, schema.tensors, schema, samples_type="float32"
            )

    @given(schemas())
    def test_its_size_is_a_function_of_the_schema(self, schema: Schema) -> None:
        samples = samples_per_shard(schema)
        assert 1 <= samples <= MAX_SHARD_SAMPLES
        assert samples == 1 or samples * schema.sample_bytes <= USUAL_SHARD_BYTES

    def test_samples_of_the_built_in_task_are_cut_as_before(self) -> None:
        schema = Schema(
            inputs={"x": TensorSpec(dtype="float32", shape=(1600,))},
            targets={"y": TensorSpec(dtype="float32")},
        )
        assert samples_per_shard(schema) == 256

    def test_the_largest_sample_fits_in_a_shard(self) -> None:
        schema = one("uint8", 64, 2**20)
        assert samples_per_shard(schema) == 1
        assert schema.sample_bytes <= MAX_SHARD_BYTES
