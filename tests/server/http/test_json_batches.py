"""Reading an inline batch from JSON, against what the json module reads."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omega21.protocol.errors import InvalidRequest
from omega21.server.http.json_batches import read_json_batch

ROW = [0.25] * 1600

anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
unknown = st.dictionaries(
    st.text().filter(lambda name: name not in {"input_data", "anomaly_label", "timestamp"}),
    anything,
)


@given(
    labels=st.lists(st.integers(0, 1), min_size=1, max_size=4),
    extra=unknown,
    others=unknown.map(lambda fields: {k: v for k, v in fields.items() if k != "samples"}),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    extra_first=st.booleans(),
)
def test_any_layout_and_unknown_fields_are_read(
    *,
    labels: list[int],
    extra: dict[str, Any],
    others: dict[str, Any],
    indent: int | None,
    ascii_only: bool,
    extra_first: bool,
) -> None:
    sample = {"input_data": ROW}
    batch = [
        (extra | sample if extra_first else sample | extra) | {"anomaly_label": label}
        for label in labels
    ]
    others.pop("epochs", None)
    message = others | {"samples": batch, "epochs": 2}
    body = json.dumps(message, indent=indent, ensure_ascii=ascii_only)

    x, y, epochs = read_json_batch(body.encode(errors="surrogatepass"))

    assert (x.shape, str(x.dtype), epochs) == ((len(labels), 1600), "float32", 2)
    assert (x == 0.25).all()
    assert y.tolist() == labels


@given(st.text(max_size=40))
def test_what_is_no_json_is_a_named_error(body: str) -> None:
    with pytest.raises(InvalidRequest):
        read_json_batch(body.encode(errors="surrogatepass"))


@pytest.mark.parametrize(
    "body",
    [
        '{"samples": [], "epochs": 1} {}',
        '{"samples": [],}',
        '{"epochs" 1}',
        "{1: 2}",
        '{"samples": [{]}',
        '{"samples": [{"a": "}", ]}',
        "{",
    ],
)
def test_json_that_breaks_anywhere_is_refused(body: str) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        read_json_batch(body.encode())


def test_numbers_are_read_exactly() -> None:
    values = np.random.default_rng(0).normal(size=1600)
    body = json.dumps({"samples": [{"input_data": values.tolist(), "anomaly_label": 1}]})

    x, _, _ = read_json_batch(body.encode())

    np.testing.assert_array_equal(x[0], values.astype(np.float32))
