"""Files of samples: what is written is read, and bad files are named."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from omega21.data.samples import Samples
from omega21.data.sources.files import (
    DataSet,
    as_data_set,
    open_data,
    read_inputs,
    write_data,
)
from omega21.data.sources.generators import generate
from omega21.data.sources.scale import scale_warnings
from omega21.models.registry import default_config, value_check
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.errors import InvalidDataFile, InvalidSamples
from omega21.protocol.schema import Schema, TensorSpec
from tests.schemas import make_tensors, schemas

CONFIG = default_config()
SUFFIXES = [".npz", ".safetensors"]


def opened(path: Path) -> DataSet:
    """Open a file for the built-in task."""
    return open_data(path, CONFIG.sample_schema, check=value_check(CONFIG.task))


@pytest.fixture
def samples() -> Samples:
    return generate("simple", 1, range(20), anomaly_percent=10, features=1600)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(tmp_path: Path, samples: Samples, suffix: str) -> None:
    path = tmp_path / f"set{suffix}"
    write_data(path, samples.tensors)
    data = opened(path)
    data.check()
    assert len(data) == 20
    for rows in (slice(None), slice(5, 9), np.array([7, 3, 3])):
        read = data.read(rows)
        assert read["x"].dtype == read["y"].dtype == np.float32
        assert np.array_equal(read["x"], samples.x[rows])
        assert np.array_equal(read["y"], samples.y[rows])
    assert data.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_files_are_ordinary_ones(tmp_path: Path, samples: Samples) -> None:
    write_data(tmp_path / "set.safetensors", samples.tensors)
    assert np.array_equal(load_file(tmp_path / "set.safetensors")["x"], samples.x)
    write_data(tmp_path / "set.npz", samples.tensors)
    with np.load(tmp_path / "set.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["y"], samples.y)


@pytest.mark.parametrize("x_type", [np.float16, np.float64, np.int8])
@pytest.mark.parametrize("y_type", [np.bool_, np.int64, np.float32])
def test_other_types_of_number_are_read_as_float32(
    tmp_path: Path, samples: Samples, x_type: type, y_type: type
) -> None:
    x: Any = samples.x.astype(x_type)
    y: Any = samples.y.astype(y_type)
    np.savez(tmp_path / "set.npz", x=x, y=y)
    read = opened(tmp_path / "set.npz").read(slice(None))
    assert np.array_equal(read["x"], x.astype(np.float32))
    assert np.array_equal(read["y"], samples.y)


def test_a_safetensors_file_is_read_in_part(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "set.safetensors"
    x = np.repeat(samples.x, 2, axis=0)
    x[30:] = np.nan
    save_file({"x": x, "y": np.zeros(40, np.float32)}, path)
    data = opened(path)
    assert np.array_equal(data.read(slice(0, 30))["x"], x[:30])
    with pytest.raises(InvalidSamples, match="sample 30"):
        data.read(slice(25, 35))


def save(path: Path, **tensors: Any) -> None:
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        save_file(tensors, path)


X, Y = np.zeros((5, 1600), np.float32), np.zeros(5, np.float32)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("tensors", "error", "words"),
    [
        (
            {"x": X[:, :1599], "y": Y},
            InvalidSamples,
            r"x has shape \[5, 1599\], expected \[n, 1600\]",
        ),
        ({"x": X[:0], "y": Y[:0]}, InvalidSamples, "has no samples"),
        ({"x": X, "y": Y[:4]}, InvalidSamples, "numbers of samples: x 5, y 4"),
        ({"x": X}, InvalidDataFile, "no tensor y"),
        ({"y": Y, "z": X}, InvalidDataFile, "no tensor x"),
        ({"x": X, "y": Y[:, None]}, InvalidSamples, r"y has shape \[5, 1\], expected \[n\]"),
        ({"x": X[0], "y": Y}, InvalidSamples, r"x has shape \[1600\]"),
    ],
)
def test_a_set_of_the_wrong_form_is_named(
    tmp_path: Path, suffix: str, tensors: dict[str, Any], error: type[Exception], words: str
) -> None:
    path = tmp_path / f"set{suffix}"
    save(path, **tensors)
    with pytest.raises(error, match=words):
        opened(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_feature_that_is_no_number_is_named(tmp_path: Path, suffix: str, bad: float) -> None:
    x = X.astype(np.float64)
    x[3, 17] = bad
    save(tmp_path / f"set{suffix}", x=x, y=Y)
    data = opened(tmp_path / f"set{suffix}")
    with pytest.raises(
        InvalidSamples, match=r"(NaN, infinite or beyond|does not fit in) float32, sample 3"
    ):
        data.check()
    with pytest.raises(InvalidSamples, match="sample 3"):
        data.read(np.array([4, 3]))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bad", [2, -1, 0.5, np.nan])
def test_a_label_other_than_0_or_1_is_named(tmp_path: Path, suffix: str, bad: float) -> None:
    y = Y.copy()
    y[4] = bad
    save(tmp_path / f"set{suffix}", x=X, y=y)
    with pytest.raises(InvalidSamples, match="neither 0 nor 1, sample 4"):
        opened(tmp_path / f"set{suffix}").check()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"something else entirely" * 10])
def test_a_file_that_is_no_data_set_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"set{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidDataFile, match=f"set{suffix} is not a"):
        opened(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_short_is_named(tmp_path: Path, samples: Samples, suffix: str) -> None:
    path = tmp_path / f"set{suffix}"
    write_data(path, samples.tensors)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InvalidDataFile, match="is not a"):
        opened(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=np.array([{}], dtype=object), y=Y)
    with pytest.raises(InvalidDataFile, match="plain tensors"):
        opened(tmp_path / "set.npz")


def test_a_single_tensor_is_no_set(tmp_path: Path) -> None:
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(InvalidDataFile, match="a single tensor"):
        opened(tmp_path / "set.npz")


def test_text_is_no_feature(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=np.full((5, 1600), "a"), y=Y)
    with pytest.raises(InvalidSamples, match=r"set.npz: tensor x has .* not a numeric one"):
        opened(tmp_path / "set.npz")


def test_a_missing_file_and_an_unknown_ending_are_named(tmp_path: Path, samples: Samples) -> None:
    with pytest.raises(InvalidDataFile, match="there is no file"):
        opened(tmp_path / "set.npz")
    with pytest.raises(InvalidDataFile, match="unknown extension"):
        opened(tmp_path / "set.csv")
    with pytest.raises(InvalidDataFile, match="unknown extension"):
        write_data(tmp_path / "set.csv", samples.tensors)


def test_nothing_bad_is_written(tmp_path: Path, samples: Samples) -> None:
    with pytest.raises(InvalidSamples, match="numbers of samples"):
        write_data(tmp_path / "set.npz", {"x": samples.x, "y": samples.y[1:]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(schema=schemas(), samples=st.integers(1, 4))
def test_a_file_of_any_schema_is_read(suffix: str, schema: Schema, samples: int) -> None:
    tensors = make_tensors(schema, samples)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"set{suffix}"
        write_data(path, tensors)
        known = open_data(path, schema)
        found = open_data(path, targets=tuple(schema.targets))
        known.check()
        assert tensors_sha256(known.read(slice(None))) == tensors_sha256(tensors)
        assert found.schema.targets.keys() == schema.targets.keys()
        rows = np.arange(samples)[::-1]
        for name, array in found.read(rows).items():
            assert array.dtype == found.schema.tensors[name].numpy_type
            if array.dtype == tensors[name].dtype:
                np.testing.assert_array_equal(array, tensors[name][rows])


@given(schema=schemas(), samples=st.integers(1, 4))
def test_arrays_are_the_file_that_they_are_written_to(schema: Schema, samples: int) -> None:
    given_arrays = as_data_set(make_tensors(schema, samples), schema)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "set.safetensors"
        given_arrays.write(path)
        assert open_data(path).sha256() == given_arrays.sha256()
        stored = open_data(path, schema).read(slice(None))
        assert tensors_sha256(stored) == tensors_sha256(given_arrays.read(slice(None)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_file_is_to_be_trained_as_is_said(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"set{suffix}"
    save(path, image=np.zeros((4, 8, 8), np.uint8), y=np.arange(4), weight=np.ones(4))
    assert list(open_data(path).schema.targets) == ["y"]
    assert set(open_data(path, targets=("y", "weight")).schema.inputs) == {"image"}
    with pytest.raises(InvalidSamples, match=r"no tensor 'z' that could be a target.*image"):
        open_data(path, targets=("z",))
    wanted = {"image": TensorSpec(dtype="uint8", shape=(8, 8))}
    assert list(read_inputs(path, wanted)) == ["image"]
    with pytest.raises(InvalidDataFile, match="no tensor other"):
        read_inputs(path, {"other": TensorSpec(dtype="uint8")})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_many_tensors_or_none_is_named(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"many{suffix}", **{f"t{number}": np.ones(2) for number in range(40)})
    save(tmp_path / f"none{suffix}")
    with pytest.raises((InvalidSamples, InvalidDataFile), match="at most 32"):
        open_data(tmp_path / f"many{suffix}")
    with pytest.raises(InvalidDataFile, match="no tensors"):
        open_data(tmp_path / f"none{suffix}")


class TestScale:
    def warnings(self, **tensors: Any) -> list[str]:
        return scale_warnings(as_data_set(tensors))

    def test_of_each_float_input(self) -> None:
        rng = np.random.default_rng(0)
        fit = rng.normal(size=(50, 4)).astype(np.float32)
        (text,) = self.warnings(one=fit, two=fit * 1000, y=fit[:, 0] * 1e6)
        assert "the features two of the data are not scaled" in text
        assert self.warnings(one=fit) == []

    def test_of_no_integers(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (50, 8, 8), np.uint8)
        assert self.warnings(pixels=pixels, tokens=np.arange(500).reshape(50, 10)) == []

    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
    def test_of_nothing_that_does_not_vary(self, value: float) -> None:
        assert self.warnings(x=np.full((50, 4), value)) == []
        assert self.warnings(x=np.full((1, 4), value)) == []
