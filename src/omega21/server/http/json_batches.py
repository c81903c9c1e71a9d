"""Inline batches from the wire: JSON or safetensors to arrays.

A batch of 900 samples is 30 MB of JSON, and parsing it in one call would hold the GIL for a third
of a second. So samples are parsed one at a time (0.4 ms each), and each becomes a float32 row
before the next is parsed.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from omega21.language import _
from omega21.language.borrowed import translated
from omega21.protocol.errors import InvalidRequest, InvalidSamples
from omega21.protocol.legacy import FEATURES, TrainingSample, TrainLayer2
from omega21.protocol.shards import decode_shard
from omega21.server.http.errors import describe_invalid

INLINE_JSON_LIMIT = 32 * 2**20
"""Maximum size of a batch in JSON: about 950 samples, 15 batches of the usual 64."""

INLINE_PARTS_LIMIT = 50_000
"""Maximum number of lists and objects in it: two for each of 10,000 samples of zeros."""

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class InlineBatch(NamedTuple):
    """A batch: x float32 [n, features], y float32 [n], and the number of steps to train on it."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    epochs: int


def read_json_batch(body: bytes) -> InlineBatch:
    """Read a `TrainLayer2` message. Raises InvalidRequest, InvalidSamples."""
    try:
        message = _Message(body.decode())
        others = message.read()
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            _("the body is not valid JSON: {error}").format(error=error)
        ) from error
    try:
        head = TrainLayer2.model_validate({**others, "samples": []})
    except ValidationError as error:
        raise InvalidRequest(describe_invalid(error.errors(include_url=False))) from error
    if message.rows is None:
        raise InvalidRequest(f"samples: {translated('Field required')}")
    if not message.rows:
        raise InvalidSamples(_("the batch is empty"), hint=_("send at least one sample"))
    return InlineBatch(np.stack(message.rows), np.array(message.labels, np.float32), head.epochs)


def read_tensor_batch(body: bytes, *, compressed: bool, epochs: int) -> InlineBatch:
    """Read `x` and `y` from a safetensors file. Raises InvalidShard, InvalidSamples."""
    tensors = decode_shard(body, compressed=compressed)
    if set(tensors) != {"x", "y"}:
        raise InvalidSamples(
            _("a batch is two tensors, x and y, got {tensors}").format(
                tensors=", ".join(sorted(tensors))
            )
        )
    x, y = tensors["x"], tensors["y"]
    if x.dtype.kind != "f" or x.ndim != 2 or y.ndim != 1:
        raise InvalidSamples(_("x is a float tensor [n, features] and y a tensor [n]"))
    return InlineBatch(_as_float32(x), _as_float32(y), epochs)


def _as_float32(values: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are refused
        return np.asarray(values, dtype=np.float32)


class _Message:
    """Parses one JSON object, its `samples` one by one; raises ValueError for invalid JSON."""

    def __init__(self, text: str) -> None:
        self.rows: list[NDArray[np.float32]] | None = None
        self.labels: list[int] = []
        self._text = text
        self._at = 0

    def read(self) -> dict[str, Any]:
        """Return every field except `samples`, which goes to `rows` and `labels`."""
        others: dict[str, Any] = {}
        for _item in self._items("{", "}"):
            name = self._value()
            self._take(":")
            if name == "samples":
                self._read_samples()
            elif isinstance(name, str):
                others[name] = self._value()
            else:
                raise ValueError(
                    _("a field's name has to be a string, at character {at}").format(at=self._at)
                )
        if self._peek():
            raise ValueError(
                _("there is more text after its end, at character {at}").format(at=self._at)
            )
        return others

    def _read_samples(self) -> None:
        self.rows, self.labels = [], []
        if self._peek() != "[":
            self._value()
            raise InvalidRequest(f"samples: {translated('Input should be a valid list')}")
        for _item in self._items("[", "]"):
            sample = self._read_sample(len(self.rows))
            self.rows.append(_as_float32(sample.input_data))
            self.labels.append(sample.anomaly_label)

    def _read_sample(self, number: int) -> TrainingSample:
        # A sample seldom has a "}" before its end, and pydantic parses it three times as fast as
        # the json module; if the guess was wrong, the part is invalid JSON.
        self._peek()
        end = self._text.find("}", self._at) + 1
        try:
            try:
                sample = TrainingSample.model_validate_json(self._text[self._at : end])
                self._at = end
            except ValidationError as error:
                if error.errors(include_url=False)[0]["type"] != "json_invalid":
                    raise
                sample = TrainingSample.model_validate(self._value())
        except ValidationError as error:
            raise _invalid_sample(error, number) from error
        if len(sample.input_data) != FEATURES:
            got = len(sample.input_data)
            raise InvalidSamples(
                _("expected {features} features, got {got}, sample {number}").format(
                    features=FEATURES, got=got, number=number
                ),
                hint=_("send {features} numbers for each sample").format(features=FEATURES),
            )
        if sample.anomaly_label not in {0, 1}:
            raise InvalidSamples(
                _("label {label} of sample {number} is neither 0 nor 1").format(
                    label=sample.anomaly_label, number=number
                )
            )
        return sample

    def _items(self, start: str, end: str) -> Iterator[None]:
        self._take(start)
        if self._peek() == end:
            self._at += 1
            return
        while True:
            self._peek()
            yield
            if self._peek() == end:
                self._at += 1
                return
            self._take(",")

    def _value(self) -> Any:
        self._peek()
        value, self._at = _DECODER.raw_decode(self._text, self._at)
        return value

    def _take(self, character: str) -> None:
        if self._peek() != character:
            raise ValueError(
                _("expecting {character!r}, at character {at}").format(
                    character=character, at=self._at
                )
            )
        self._at += 1

    def _peek(self) -> str:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        return self._text[self._at : self._at + 1]


def _invalid_sample(error: ValidationError, number: int) -> InvalidSamples | InvalidRequest:
    first = error.errors(include_url=False)[0]
    match first["loc"], first["type"]:
        case ("input_data", int(column)), "finite_number":
            return InvalidSamples(
                _("feature {column} of sample {number} is not a finite number").format(
                    column=column, number=number
                ),
                hint=_("remove the sample or replace the value"),
            )
        case ("input_data", int(column)), _:
            return InvalidSamples(
                _("feature {column} of sample {number} is not a number").format(
                    column=column, number=number
                )
            )
        case ("anomaly_label",), kind if kind != "missing":
            label = str(first["input"])[:40]
            return InvalidSamples(
                _("label {label} of sample {number} is neither 0 nor 1").format(
                    label=label, number=number
                )
            )
        case place, _:
            field = ".".join(str(part) for part in ("samples", number, *place))
            return InvalidRequest(f"{field}: {translated(first['msg'])}")
