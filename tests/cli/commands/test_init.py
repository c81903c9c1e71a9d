"""`omega21 init`: what it writes trains, on samples of the shapes that it names."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from omega21 import Client
from omega21.cli.commands.init import StarterName, write_starter
from omega21.client.events import Done
from omega21.client.request.model import with_model
from omega21.client.request.request import TrainRequest
from omega21.client.training.options import TrainOptions
from omega21.language import choose_language
from omega21.protocol.errors import InvalidCode
from omega21.protocol.optimizers import OptimizerConfig
from tests.cli.conftest import Omega21
from tests.servers import RunningServer, start_server

TASKS: tuple[StarterName, ...] = get_args(StarterName)
COUNT = 120


def values(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((COUNT, *shape), dtype=np.float32)


def classes() -> NDArray[np.int64]:
    largest: NDArray[np.int64] = values(3).argmax(1)
    return largest


DATA: dict[str, tuple[StarterName, dict[str, NDArray[Any]], dict[str, tuple[int, ...]]]] = {
    "flat": ("classifier", {"x": values(3), "y": classes()}, {"probability": (10,), "label": ()}),
    "images": (
        "classifier",
        {"x": (255 * values(2, 4, 4)).astype(np.uint8), "y": classes().astype(np.uint8)},
        {"probability": (10,), "label": ()},
    ),
    "number": ("regressor", {"x": values(3), "y": values(3).sum(1)}, {"value": ()}),
    "numbers": ("regressor", {"x": values(3), "y": values(2, 2)}, {"value": (2, 2)}),
    "unlabelled": (
        "autoencoder",
        {"x": values(4, 2)},
        {"code": (8,), "reconstruction": (4, 2), "error": ()},
    ),
    "series": ("forecaster", {"x": values(12), "y": values(3)}, {"forecast": (3,)}),
    "several-series": (
        "forecaster",
        {"x": values(12, 2), "y": values(3, 2)},
        {"forecast": (3, 2)},
    ),
}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("init") / "data"
    with start_server(folder, "--threads", "1", "--device", "cpu", "--allow-code") as running:
        yield running


@pytest.mark.parametrize("name", DATA)
def test_what_it_writes_trains(name: str, own_server: RunningServer, tmp_path: Path) -> None:
    task, data, outputs = DATA[name]
    write_starter(tmp_path / "net.py", task)
    request = TrainRequest(
        run=name,
        data=data,
        samples=None,
        epochs=8,
        batch_size=16,
        validation=20,
        optimizer=OptimizerConfig(learning_rate=0.01),
    )
    with Client(own_server.address) as client:
        *_events, last = client.train(
            with_model(request, f"{tmp_path / 'net.py'}:build"), TrainOptions(workdir=tmp_path)
        )
        found = client.predict(name, {"x": data["x"][:4]}).outputs

    assert isinstance(last, Done)
    assert last.summary.loss_first is not None
    assert last.summary.validation_loss is not None
    assert last.summary.validation_loss < last.summary.loss_first
    assert {key: array.shape[1:] for key, array in found.items()} == outputs


def test_it_says_what_it_wrote_and_how_to_train_it(omega21: Omega21, tmp_path: Path) -> None:
    done = omega21("init")

    assert done.status == 0, done.stderr
    assert "omega21 train URL --model net.py:build --data FILE" in done.stdout
    assert "y [n], whole numbers from 0" in done.stdout
    ast.parse((tmp_path / "net.py").read_text(encoding="utf-8"))

    other = omega21("init", "ahead.py", "--tarea", "forecaster", "--json")
    assert other.figures == {
        "file": "ahead.py",
        "task": "forecaster",
        "train": "omega21 train URL --model ahead.py:build --data FILE",
    }


def test_an_existing_file_is_kept(omega21: Omega21, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("mine", encoding="utf-8")
    (tmp_path / "link.py").symlink_to("nowhere.py")

    for file in ("net.py", "link.py"):
        done = omega21("init", file)
        assert done.status == 2
        assert done.stderr == f"error: {file} exists; name another file, or remove this one\n"
    assert (tmp_path / "net.py").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "nowhere.py").exists()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("my-net.py", "'my-net' is no name of a Python module"),
        ("1.py", "'1' is no name of a Python module"),
        ("random.py", "random.py cannot be in a source: it would replace the module random"),
        ("torch.py", "torch.py cannot be in a source: it would replace the module torch"),
        ("net.txt", "net.txt has to end in .py"),
        ("absent/net.py", "there is no folder absent"),
    ],
)
def test_a_file_that_could_not_be_imported_is_not_written(
    file: str, said: str, omega21: Omega21, tmp_path: Path
) -> None:
    done = omega21("init", file)

    assert done.status in {2, InvalidCode.exit_code}
    assert done.stderr.startswith(f"error: {said}")
    assert not (tmp_path / file).exists()


@pytest.mark.parametrize("task", TASKS)
def test_the_code_is_the_same_in_each_language(task: StarterName, tmp_path: Path) -> None:
    written = {}
    try:
        for language in ("en", "es"):
            choose_language(language)
            write_starter(tmp_path / f"net_{language}.py", task)
            written[language] = (tmp_path / f"net_{language}.py").read_text(encoding="utf-8")
    finally:
        choose_language("en")

    assert _code(written["en"]) == _code(written["es"])
    assert "$" not in written["en"]
    assert max(map(len, "\n".join(written.values()).splitlines())) <= 100


def _code(text: str) -> str:
    """The code alone, without comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return ast.unparse(tree)
