"""A model of one's own as an estimator: what scikit-learn asks of one, on a real server."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from omega21.protocol.errors import InvalidRequest
from omega21.sklearn import RemoteClassifier
from tests.servers import RunningServer, start_server

TOKEN = "a-token-of-the-estimator"

FLAT = """\
from torch import nn


def build(schema, *, hidden=32, classes):
    (features,) = schema.inputs["x"].shape
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("estimator") / "data"
    with start_server(
        folder, "--threads", "1", "--max-runs", "500", "--allow-code", token=TOKEN
    ) as running:
        yield running


Write = Callable[[str], str]
"""Writes a net.py and returns the model in it, as an estimator names it."""


@pytest.fixture
def write(server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the source of a model; the server and its token are in the environment."""
    monkeypatch.setenv("COLAB_SERVER_URL", server.address)
    monkeypatch.setenv("OMEGA21_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)

    def to_file(text: str) -> str:
        (tmp_path / "net.py").write_text(text, encoding="utf-8")
        return "net.py:build"

    return to_file


def blobs(*labels: Any) -> tuple[Any, Any]:
    x, y = make_blobs(120, centers=len(labels), cluster_std=0.5, random_state=0)
    return x, np.array(labels)[y]


FAST: dict[str, Any] = {"epochs": 8, "batch_size": 16, "learning_rate": 0.02, "workdir": "runs"}


@parametrize_with_checks([RemoteClassifier("net.py:build", **FAST)])  # type: ignore[untyped-decorator]
def test_scikit_learn_finds_no_fault(estimator: Any, check: Any, write: Write) -> None:
    write(FLAT)
    check(estimator)


def test_classes_are_those_that_it_was_given(write: Write) -> None:
    x, y = blobs("no", "perhaps", "yes")
    fitted = RemoteClassifier(write(FLAT), **FAST).fit(x, y)

    assert fitted.classes_.tolist() == ["no", "perhaps", "yes"]
    assert fitted.score(x, y) > 0.9
    probability = fitted.predict_proba(x)
    assert probability.shape == (120, 3)
    assert probability.sum(axis=1) == pytest.approx(1)
    assert fitted.classes_[probability.argmax(1)].tolist() == fitted.predict(x).tolist()


def test_equal_parameters_give_equal_models_and_another_seed_another(write: Write) -> None:
    x, y = blobs(0, 1)
    first = RemoteClassifier(write(FLAT), **FAST).fit(x, y)
    again = clone(first).fit(x, y)
    other = clone(first).set_params(random_state=7).fit(x, y)

    assert first.run_ != again.run_
    assert np.array_equal(first.predict_proba(x), again.predict_proba(x))
    assert not np.array_equal(first.predict_proba(x), other.predict_proba(x))


def test_options_can_be_searched(write: Write) -> None:
    x, y = blobs(0, 1, 2)
    options = [{"hidden": 1}, {"hidden": 16}]
    search = GridSearchCV(RemoteClassifier(write(FLAT), **FAST), {"options": options}, cv=2)
    search.fit(x, y)

    assert search.best_params_ == {"options": {"hidden": 16}}
    assert search.score(x, y) > 0.9


def test_a_fitted_one_is_pickled_without_the_token(write: Write) -> None:
    x, y = blobs(0, 1)
    fitted = RemoteClassifier(write(FLAT), **FAST).fit(x, y)
    stored = pickle.dumps(fitted)

    assert TOKEN.encode() not in stored
    assert TOKEN not in repr(fitted)
    assert np.array_equal(pickle.loads(stored).predict(x), fitted.predict(x))


IMAGES = """\
from torch import nn


def build(schema, *, kinds):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, kinds))


def predictions(outputs):
    return {"label": outputs.argmax(1), "probability": outputs.softmax(1)}
"""


def test_samples_have_any_shape_and_the_option_any_name(write: Write) -> None:
    x = np.random.default_rng(0).random((60, 3, 2, 2))
    y = x.mean((2, 3)).argmax(1)
    fitted = RemoteClassifier(write(IMAGES), classes_option="kinds", **FAST).fit(x, y)

    assert fitted.score(x, y) > 0.5
    assert fitted.predict_proba(x).sum(axis=1) == pytest.approx(1)


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no-probability": (
        'def predictions(outputs):\n    return {"label": outputs.argmax(1), "logits": outputs}\n',
        {},
        "the model predicts label, logits, and no 'probability'",
    ),
    "another-number-of-classes": (
        "",
        {"options": {"classes": 5}},
        r"output has shape \[120, 5\], and there are 2 classes",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_predictions_that_are_no_probabilities_are_named(name: str, write: Write) -> None:
    text, parameters, said = WRONG[name]
    x, y = blobs(0, 1)
    fitted = RemoteClassifier(write(FLAT + text), **parameters, **FAST).fit(x, y)

    with pytest.raises(InvalidRequest, match=said):
        fitted.predict(x)


def test_a_run_can_be_removed(write: Write) -> None:
    x, y = blobs(0, 1)
    fitted = RemoteClassifier(write(FLAT), **FAST).fit(x, y)
    fitted.remove()

    with pytest.raises(NotFittedError):
        fitted.predict(x)
    assert [path.name for path in Path("runs").iterdir()] == []


def test_a_server_has_to_be_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write(FLAT)
    monkeypatch.delenv("COLAB_SERVER_URL")

    with pytest.raises(InvalidRequest, match="no server is named; pass url="):
        RemoteClassifier(model, **FAST).fit(*blobs(0, 1))


def test_without_scikit_learn_the_extra_is_named() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import omega21.sklearn"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert done.returncode == 1
    assert "omega21.sklearn needs a package that is not installed" in done.stderr
    assert "pip install '.[sklearn]'" in done.stderr
