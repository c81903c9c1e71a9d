"""The seven classic calls, as JSON on the wire: field names that existing clients rely on."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from omega21.models.registry import default_config
from tests.servers import RunningServer

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


def kind(value: Any) -> str:
    return "number" if isinstance(value, float) else type(value).__name__


def assert_same_form(golden: Any, actual: Any, place: str = "reply") -> None:
    """Every field of `golden` is there, of the same kind; a whole number does for a number."""
    whole_for_number = isinstance(golden, float) and type(actual) is int
    assert kind(golden) == kind(actual) or whole_for_number, f"{place}: {actual!r}"
    if isinstance(golden, dict):
        for name, value in golden.items():
            assert name in actual, f"{place}.{name} is missing"
            assert_same_form(value, actual[name], f"{place}.{name}")
    elif isinstance(golden, list) and golden:
        if len(golden) in {16, 64}:
            assert len(actual) == len(golden), place
        for item in actual:
            assert_same_form(golden[0], item, f"{place}[]")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_replies_keep_their_form(http: httpx.Client, path: Path) -> None:
    golden = json.loads(path.read_text(encoding="utf-8"))
    request = golden["request"]

    reply = http.request(request["method"], request["path"], json=request.get("json"))

    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert_same_form(golden["reply"], reply.json())


def test_all_seven_are_covered() -> None:
    assert [path.stem for path in GOLDEN] == [
        "diagnostico",
        "feedback_dendritas",
        "health",
        "info",
        "metricas",
        "status",
        "train_layer2",
    ]


def test_a_missing_or_changed_field_is_noticed() -> None:
    golden = {"status": "online", "feedback": {"recibido": 1}}
    assert_same_form(golden, {"status": "x", "feedback": {"recibido": 2}, "more": None})
    with pytest.raises(AssertionError, match=r"reply\.feedback\.recibido is missing"):
        assert_same_form(golden, {"status": "online", "feedback": {}})
    with pytest.raises(AssertionError, match=r"reply\.status"):
        assert_same_form(golden, {"status": None, "feedback": {"recibido": 1}})


def test_statistics_are_zeros_before_anything_is_trained(server: RunningServer) -> None:
    with httpx.Client(base_url=server.address) as http:
        run = {"id": "0" * 32, "config": default_config().model_dump(mode="json")}
        assert http.put("/runs/untouched", json=run).status_code == 201
        statistics = http.get("/status", params={"run": "untouched"}).json()["estadisticas"]
    assert statistics["total_muestras"] == statistics["total_batches"] == 0
    assert statistics["loss_promedio_global"] == statistics["loss_promedio_ultimos_100"] == 0
    assert statistics["feedback"] == {"recibido": 0, "exitoso": 0, "tasa_exito": 0}
