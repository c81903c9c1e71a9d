"""A model of your own as an estimator of scikit-learn, trained and asked on a server.

    from omega21.sklearn import RemoteClassifier

    classifier = RemoteClassifier("net.py:build", url="http://127.0.0.1:8000", epochs=20)
    classifier.fit(x, y).score(x_new, y_new)

Needs the extra `sklearn`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omega21.client.http.address import parse_address
from omega21.client.known_servers import remembered
from omega21.client.request.model import with_model
from omega21.client.request.request import TrainRequest
from omega21.client.store.run_folder import (
    fresh_run_name,
    remove_run_folder,
    run_folder_path,
)
from omega21.client.sync import Client
from omega21.client.training.options import TrainOptions
from omega21.language import _
from omega21.protocol.errors import ExtraMissing, InvalidRequest
from omega21.protocol.optimizers import OptimizerConfig

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ExtraMissing.of("sklearn", for_what="omega21.sklearn") from error

PROBABILITY: Final = "probability"
"""The prediction that `predict_proba` returns."""


class RemoteClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # sklearn has no types
    """A classifier whose model is built by `build` in a file of yours, on a server.

    `model` is the file and its function, such as `net.py:build`. It gets `options`, and the number
    of classes as the option that `classes_option` names, unless that is None. The input is `x`,
    float32 [n, …], and the target `y`, int64 [n]: classes from 0 in the order of `classes_`. The
    model's prediction `probability` [n, classes] is what `predict_proba` returns; without one, its
    only output is taken as logits.

    The server is at `url`, by default that of COLAB_SERVER_URL. Its token and its certificate are
    those of OMEGA21_TOKEN and OMEGA21_CA, else those that the command line remembers for this
    address. `loss`, `optimizer` and the other parameters are those of `omega21 train`. Equal
    parameters, `random_state` among them, and equal samples give equal models on one kind of
    machine.

    Each fit is a run of its own, `run_`, with a folder in `workdir` on this machine; both stay
    until `remove`. The server computes predictions with the run's weights. A fitted estimator can
    be pickled: it names the run, and holds no weights and no token.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        options: Mapping[str, Any] | None = None,
        classes_option: str | None = "classes",
        loss: str | None = None,
        optimizer: str = "adamw",
        learning_rate: float = 1e-3,
        epochs: int = 10,
        batch_size: int = 64,
        include: Sequence[str] = (),
        install: bool = False,
        workdir: str | os.PathLike[str] | None = None,
        random_state: int = 42,
    ) -> None:
        self.model = model
        self.url = url
        self.options = options
        self.classes_option = classes_option
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.include = include
        self.install = install
        self.workdir = workdir
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train a new run on X [n, …] and the classes y [n].

        The run and its folder are on disk when it returns. Raises ValueError for samples that are
        none, TaskFailed, CodeNotAllowed, Unreachable.
        """
        X, y = validate_data(self, X, y, dtype=np.float32, allow_nd=True)
        check_classification_targets(y)
        classes, encoded = np.unique(y, return_inverse=True)
        data = {"x": np.asarray(X), "y": encoded.astype(np.int64)}
        request = self._request(data, classes=len(classes))
        with self._client() as client:
            for _event in client.train(request, TrainOptions(workdir=self._folder())):
                pass
        self.classes_, self.run_ = classes, request.run
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class [n, classes], in the order of `classes_`."""
        check_is_fitted(self, "run_")
        X = validate_data(self, X, dtype=np.float32, allow_nd=True, reset=False)
        with self._client() as client:
            outputs = client.predict(self.run_, {"x": X}).outputs
        return _probabilities(outputs, len(self.classes_))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of each sample [n]."""
        likely = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[likely])

    def remove(self) -> None:
        """Remove the run from the server, and its folder; the estimator is no longer fitted.

        Both are removed on disk when it returns.
        """
        check_is_fitted(self, "run_")
        with self._client() as client:
            client.remove(self.run_)
        remove_run_folder(run_folder_path(self.run_, self._folder()))
        del self.run_

    def _request(self, data: Mapping[str, NDArray[Any]], *, classes: int) -> TrainRequest:
        options = dict(self.options or {})
        if self.classes_option is not None:
            options.setdefault(self.classes_option, classes)
        request = TrainRequest(
            run=fresh_run_name(),
            data=data,
            targets=("y",),
            samples=None,
            validation=0,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.random_state,
            optimizer=OptimizerConfig.model_validate(
                {"name": self.optimizer, "learning_rate": self.learning_rate}
            ),
        )
        return with_model(
            request,
            self.model,
            options=options,
            loss=self.loss,
            include=tuple(self.include),
            install=self.install,
        )

    def _folder(self) -> Path | None:
        return None if self.workdir is None else Path(self.workdir)

    @contextmanager
    def _client(self) -> Iterator[Client]:
        """Open a client of the server. Raises InvalidAddress, InvalidRequest without an address."""
        url = self.url or os.environ.get("COLAB_SERVER_URL")
        if not url:
            raise InvalidRequest(
                _("no server is named"), hint=_("pass url=, or set COLAB_SERVER_URL")
            )
        address = parse_address(url)
        known = next((one for one in remembered() if one.address == address), None)
        token = os.environ.get("OMEGA21_TOKEN") or (known.token if known else None)
        ca = os.environ.get("OMEGA21_CA") or (known.ca if known else None)
        with Client(address, token=token, ca=Path(ca) if ca else None) as client:
            yield client


def _probabilities(outputs: Mapping[str, NDArray[Any]], classes: int) -> NDArray[np.float64]:
    """Return [n, classes], whose rows have the sum 1. Raises InvalidRequest."""
    name = PROBABILITY if PROBABILITY in outputs else next(iter(outputs))
    if name != PROBABILITY and len(outputs) > 1:
        raise InvalidRequest(
            _("the model predicts {names}, and no {name!r}").format(
                names=", ".join(outputs), name=PROBABILITY
            ),
            hint=_("return it from predictions(outputs): [n, classes], with the sum 1"),
        )
    found = np.asarray(outputs[name], np.float64)
    if found.ndim != 2 or found.shape[1] != classes:
        raise InvalidRequest(
            _("{name} has shape {found}, and there are {classes} classes").format(
                name=name, found=list(found.shape), classes=classes
            ),
            hint=_("return [n, classes]; build gets the number of classes as an option"),
        )
    if name != PROBABILITY:
        found = np.exp(found - found.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))
