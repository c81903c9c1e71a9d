"""Inline batches over a real socket: what is trained, what is refused, and that nothing is lost."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

from omega21.models.corteza.config import TINY, run_config
from omega21.protocol.shards import encode_shard, pack

RUN = {"run": "inline"}
TENSORS = {"Content-Type": "application/vnd.safetensors"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True, scope="module")
def run(http: httpx.Client) -> None:
    """A run whose model trains in milliseconds."""
    config = run_config(TINY).model_dump(mode="json")
    http.put("/runs/inline", json={"id": "1" * 32, "config": config}).raise_for_status()


def samples(count: int = 4, **changes: Any) -> dict[str, Any]:
    """A batch, with `changes` made to its sample 3."""
    rows = np.random.default_rng(count).uniform(-1, 1, (count, 1600)).round(4).tolist()
    batch = [{"input_data": row, "anomaly_label": i % 2} for i, row in enumerate(rows)]
    if changes:
        batch[3] |= changes
    return {"samples": batch}


def arrays(batch: dict[str, Any]) -> dict[str, Any]:
    return {
        "x": np.array([s["input_data"] for s in batch["samples"]], np.float32),
        "y": np.array([s["anomaly_label"] for s in batch["samples"]], np.float32),
    }


def state(http: httpx.Client) -> tuple[Any, ...]:
    """Whatever a refused batch must leave as it was."""
    run = http.get("/runs/inline").json()
    statistics = http.get("/status", params=RUN).json()["estadisticas"]
    kept = ("total_muestras", "total_batches", "loss_promedio_global", "feedback")
    plan = http.get("/runs/inline/plan").json()["segments"]
    return run["step"], run["weights_sha256"], plan, *(statistics[name] for name in kept)


def test_every_epoch_is_a_step_and_the_last_one_answers(http: httpx.Client) -> None:
    before = http.get("/runs/inline").json()["step"]

    reply = http.post("/train_layer2", params=RUN, json=samples() | {"epochs": 3}).json()

    rows = http.get("/runs/inline/steps", params={"after": before}).json()["steps"]
    assert [row["step"] for row in rows] == [before + 1, before + 2, before + 3]
    assert (reply["step"], reply["loss"]) == (before + 3, rows[-1]["loss"])
    assert reply["batch_size"] == 4
    assert reply["outputs"]["dendrite_adjustments"] == reply["dendrites"]


@pytest.mark.parametrize("form", ["json", "tensors", "zstd"])
def test_every_form_of_a_batch_trains_the_same(http: httpx.Client, form: str) -> None:
    name = f"form-{form}"
    config = run_config(TINY).model_dump(mode="json")
    http.put(f"/runs/{name}", json={"id": form.encode().hex().ljust(32, "0"), "config": config})
    batch = samples(5)
    params: dict[str, Any] = {"run": name}
    if form == "json":
        reply = http.post("/train_layer2", params=params, json=batch | {"epochs": 2})
    elif form == "tensors":
        body = pack(arrays(batch))
        reply = http.post(
            "/train_layer2", params=params | {"epochs": 2}, content=body, headers=TENSORS
        )
    else:
        headers = TENSORS | {"Content-Encoding": "zstd"}
        body = encode_shard(arrays(batch))
        reply = http.post(
            "/train_layer2", params=params | {"epochs": 2}, content=body, headers=headers
        )
    reply.raise_for_status()

    trained = {
        name: http.get(f"/runs/{name}").json()["weights_sha256"]
        for name in ("form-json", f"form-{form}")
    }
    assert len(set(trained.values())) == 1


def test_the_same_key_again_trains_nothing_twice(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": "a-key"}
    first = http.post("/train_layer2", params=RUN, json=samples(6), headers=headers)
    again = http.post("/train_layer2", params=RUN, json=samples(6), headers=headers)
    other = http.post("/train_layer2", params=RUN, json=samples(7), headers=headers)

    assert first.status_code == 200
    assert again.json() == first.json()
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert http.get("/runs/inline").json()["step"] == first.json()["step"]


def test_feedback_is_counted_once_for_a_key(http: httpx.Client) -> None:
    body = {"ajustes_aplicados": [0.5] * 16, "validacion": False}
    for _ in range(2):
        reply = http.post(
            "/feedback_dendritas", params=RUN, json=body, headers={"Idempotency-Key": "f"}
        )
        assert reply.json()["estadisticas"] == {"recibido": 1, "exitoso": 0, "tasa_exito": 0}


def text(batch: Any, old: str = "", new: str = "") -> bytes:
    return json.dumps(batch).replace(old, new, 1).encode() if old else json.dumps(batch).encode()


ROW = [0.5] * 1600
SHORT, NAMED = ROW[:-1], [*ROW[:-1], 7.25]

REFUSED = [
    pytest.param(
        text(samples(input_data=SHORT)), "invalid_samples",
        "expected 1600 features, got 1599, sample 3", id="short",
    ),
    pytest.param(
        text(samples(input_data=NAMED), "7.25", "NaN"), "invalid_samples",
        "feature 1599 of sample 3 is not a finite number", id="nan",
    ),
    pytest.param(
        text(samples(input_data=NAMED), "7.25", "-Infinity"), "invalid_samples",
        "feature 1599 of sample 3 is not a finite number", id="infinity",
    ),
    pytest.param(
        text(samples(input_data=NAMED), "7.25", "1e39"), "invalid_samples",
        "feature 1599 of sample 3 is not a finite number", id="infinite-as-float32",
    ),
    pytest.param(
        text(samples(input_data=NAMED), "7.25", '"seven"'), "invalid_samples",
        "feature 1599 of sample 3 is not a number", id="text-as-feature",
    ),
    pytest.param(
        text(samples(anomaly_label=2)), "invalid_samples",
        "label 2 of sample 3 is neither 0 nor 1", id="label",
    ),
    pytest.param(
        text(samples(anomaly_label=0.5)), "invalid_samples",
        "label 0.5 of sample 3 is neither 0 nor 1", id="label-between",
    ),
    pytest.param(
        text({"samples": [{"input_data": ROW}]}), "invalid_request",
        "samples.0.anomaly_label: Field required", id="no-label",
    ),
    pytest.param(text({"samples": []}), "invalid_samples", "the batch is empty", id="empty"),
    pytest.param(text({}), "invalid_request", "samples: Field required", id="no-samples"),
    pytest.param(
        text({"samples": 3}), "invalid_request",
        "samples: Input should be a valid list", id="samples-no-list",
    ),
    pytest.param(
        text({"samples": [3]}), "invalid_request", "samples.0: Input should be", id="no-object"
    ),
    pytest.param(
        text(samples() | {"epochs": 0}), "invalid_request",
        "epochs: Input should be greater than or equal to 1, got '0'", id="epochs",
    ),
    pytest.param(text(samples())[:-2], "invalid_request", "is not valid JSON", id="cut-short"),
    pytest.param(b"[1, 2]", "invalid_request", "is not valid JSON", id="no-message"),
    pytest.param(b"", "invalid_request", "is not valid JSON", id="nothing"),
    pytest.param(b"\xff{}", "invalid_request", "is not valid JSON", id="no-text"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "message"), REFUSED)
def test_what_is_wrong_is_named_and_nothing_changes(
    http: httpx.Client, body: bytes, code: str, message: str
) -> None:
    before = state(http)

    reply = http.post("/train_layer2", params=RUN, content=body, headers=JSON)

    assert reply.status_code == 422
    problem = reply.json()
    assert (problem["code"], problem["status_text"]) == (code, "error")
    assert message in problem["detail"]
    assert "\n" not in problem["detail"]
    assert state(http) == before


@pytest.mark.parametrize("start", [b"", b'{"samples": '])
def test_a_message_of_too_many_parts_is_refused_before_it_is_parsed(
    http: httpx.Client, start: bytes
) -> None:
    before = state(http)
    reply = http.post("/train_layer2", params=RUN, content=start + b"[" * 1_000_000, headers=JSON)

    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")
    assert state(http) == before


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"x": np.zeros((2, 1599), np.float32), "y": np.zeros(2, np.float32)},
            "got 1599, sample 0",
        ),
        ({"x": np.zeros((2, 1600), np.float32), "y": np.full(2, 3, np.float32)}, "neither 0 nor 1"),
        (
            {"x": np.full((2, 1600), np.nan, np.float32), "y": np.zeros(2, np.float32)},
            "not a finite",
        ),
        ({"x": np.zeros((2, 1600), np.float32)}, "two tensors, x and y, got x"),
        ({"x": np.zeros((2, 1600), np.int32), "y": np.zeros(2, np.float32)}, "x is a float tensor"),
    ],
    ids=["width", "label", "nan", "no-labels", "integers"],
)
def test_wrong_tensors_are_named_and_nothing_changes(
    http: httpx.Client, tensors: dict[str, Any], message: str
) -> None:
    before = state(http)

    reply = http.post("/train_layer2", params=RUN, content=pack(tensors), headers=TENSORS)

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_samples")
    assert message in reply.json()["detail"]
    assert state(http) == before


def test_a_batch_that_is_no_safetensors_file_is_refused(http: httpx.Client) -> None:
    reply = http.post("/train_layer2", params=RUN, content=b"no tensors", headers=TENSORS)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_shard")
