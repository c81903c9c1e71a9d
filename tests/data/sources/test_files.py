"""Files of samples: what is written is read, and bad files are named."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from omega21.data.samples import Samples
from omega21.data.sources.files import open_data, write_data
from omega21.data.sources.generators import generate
from omega21.protocol.errors import InvalidDataFile, InvalidSamples

SUFFIXES = [".npz", ".safetensors"]


@pytest.fixture
def samples() -> Samples:
    return generate("simple", 1, range(20), anomaly_percent=10)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(tmp_path: Path, samples: Samples, suffix: str) -> None:
    path = tmp_path / f"set{suffix}"
    write_data(path, samples)
    data = open_data(path)
    data.check()
    assert len(data) == 20
    for rows in (slice(None), slice(5, 9), np.array([7, 3, 3])):
        read = data.read(rows)
        assert read.x.dtype == read.y.dtype == np.float32
        assert np.array_equal(read.x, samples.x[rows])
        assert np.array_equal(read.y, samples.y[rows])
    assert data.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_files_are_ordinary_ones(tmp_path: Path, samples: Samples) -> None:
    write_data(tmp_path / "set.safetensors", samples)
    assert np.array_equal(load_file(tmp_path / "set.safetensors")["x"], samples.x)
    write_data(tmp_path / "set.npz", samples)
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
    read = open_data(tmp_path / "set.npz").read(slice(None))
    assert np.array_equal(read.x, x.astype(np.float32))
    assert np.array_equal(read.y, samples.y)


def test_a_safetensors_file_is_read_in_part(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "set.safetensors"
    x = np.repeat(samples.x, 2, axis=0)
    x[30:] = np.nan
    save_file({"x": x, "y": np.zeros(40, np.float32)}, path)
    data = open_data(path)
    assert np.array_equal(data.read(slice(0, 30)).x, x[:30])
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
        ({"x": X[:, :1599], "y": Y}, InvalidSamples, "expected 1600 features, got 1599"),
        ({"x": X[:0], "y": Y[:0]}, InvalidSamples, "has no samples"),
        ({"x": X, "y": Y[:4]}, InvalidSamples, "5 samples, y has 4 labels"),
        ({"x": X}, InvalidDataFile, "no tensor y"),
        ({"y": Y, "z": X}, InvalidDataFile, "no tensor x"),
        ({"x": X, "y": Y[:, None]}, InvalidDataFile, r"y \[5, 1\]"),
        ({"x": X[0], "y": Y}, InvalidDataFile, r"x has shape \[1600\]"),
    ],
)
def test_a_set_of_the_wrong_form_is_named(
    tmp_path: Path, suffix: str, tensors: dict[str, Any], error: type[Exception], words: str
) -> None:
    path = tmp_path / f"set{suffix}"
    save(path, **tensors)
    with pytest.raises(error, match=words):
        open_data(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_feature_that_is_no_number_is_named(tmp_path: Path, suffix: str, bad: float) -> None:
    x = X.astype(np.float64)
    x[3, 17] = bad
    save(tmp_path / f"set{suffix}", x=x, y=Y)
    data = open_data(tmp_path / f"set{suffix}")
    with pytest.raises(InvalidSamples, match="NaN, infinite or beyond float32, sample 3"):
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
        open_data(tmp_path / f"set{suffix}").check()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"something else entirely" * 10])
def test_a_file_that_is_no_data_set_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"set{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidDataFile, match=f"set{suffix} is not a"):
        open_data(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_short_is_named(tmp_path: Path, samples: Samples, suffix: str) -> None:
    path = tmp_path / f"set{suffix}"
    write_data(path, samples)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InvalidDataFile, match="is not a"):
        open_data(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=np.array([{}], dtype=object), y=Y)
    with pytest.raises(InvalidDataFile, match="plain tensors"):
        open_data(tmp_path / "set.npz")


def test_a_single_tensor_is_no_set(tmp_path: Path) -> None:
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(InvalidDataFile, match="a single tensor"):
        open_data(tmp_path / "set.npz")


def test_text_is_no_feature(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=np.full((5, 1600), "a"), y=Y)
    with pytest.raises(InvalidDataFile, match="not a numeric one"):
        open_data(tmp_path / "set.npz")


def test_a_missing_file_and_an_unknown_ending_are_named(tmp_path: Path, samples: Samples) -> None:
    with pytest.raises(InvalidDataFile, match="there is no file"):
        open_data(tmp_path / "set.npz")
    with pytest.raises(InvalidDataFile, match="unknown extension"):
        open_data(tmp_path / "set.csv")
    with pytest.raises(InvalidDataFile, match="unknown extension"):
        write_data(tmp_path / "set.csv", samples)


def test_nothing_bad_is_written(tmp_path: Path, samples: Samples) -> None:
    samples.x[2, 0] = np.nan
    with pytest.raises(InvalidSamples, match="sample 2"):
        write_data(tmp_path / "set.npz", samples)
    assert not list(tmp_path.iterdir())
