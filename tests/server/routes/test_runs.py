"""A run's whole life over a real socket: made, planned, fed, trained, read, removed."""

import hashlib
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy

from omega21.models.corteza.config import TINY, run_config
from omega21.protocol.digests import tensors_sha256
from omega21.protocol.shards import encode_shard, pack, unpack
from omega21.protocol.steps import EvaluateReply, StepsReply
from tests.servers import RunningServer

CONFIG = run_config(TINY).model_dump(mode="json")
TENSORS = {"Content-Type": "application/vnd.safetensors"}
ZSTD = TENSORS | {"Content-Encoding": "zstd"}

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


def shard(seed: int, count: int = 8) -> Arrays:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (count, 1600)).astype(np.float32)
    return {"x": x, "y": (np.arange(count) % 2).astype(np.float32)}


def segment(*shards: Arrays, samples: int, batch_size: int = 4) -> dict[str, Any]:
    refs = [{"sha256": tensors_sha256(s), "samples": len(s["y"])} for s in shards]
    source = {"kind": "simple", "seed": 1, "anomaly_percent": 50}
    return {"samples": samples, "batch_size": batch_size, "source": source, "shards": refs}


def id_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def make_run(http: httpx.Client, name: str) -> None:
    reply = http.put(f"/runs/{name}", json={"id": id_of(name), "config": CONFIG})
    assert reply.status_code == 201, reply.text


def put_segment(
    http: httpx.Client, name: str, given: dict[str, Any], *, run_id: str | None = None
) -> httpx.Response:
    body = {"run_id": run_id or id_of(name), "segment": given}
    return http.put(f"/runs/{name}/plan/0", json=body)


def put_shard(http: httpx.Client, tensors: Arrays) -> httpx.Response:
    path = f"/shards/{tensors_sha256(tensors)}"
    return http.put(path, content=encode_shard(tensors), headers=ZSTD)


def advance(http: httpx.Client, name: str, to: int, run_id: str | None = None) -> httpx.Response:
    return http.post(f"/runs/{name}/advance", json={"run_id": run_id or id_of(name), "to": to})


def read_steps(http: httpx.Client, name: str, **query: Any) -> StepsReply:
    reply = http.get(f"/runs/{name}/steps", params=query)
    assert reply.status_code == 200, reply.text
    return StepsReply.model_validate_json(reply.content)


def test_a_run_trains_as_its_shards_arrive(http: httpx.Client) -> None:
    make_run(http, "life")
    first, second = shard(1), shard(2)
    stored = put_segment(http, "life", segment(first, second, samples=16)).json()
    assert stored["missing"] == [tensors_sha256(first), tensors_sha256(second)]
    assert stored["plan_steps"] == 4
    assert advance(http, "life", 99).json()["target"] == 4  # and not past the plan

    assert put_shard(http, first).status_code == 201
    some = read_steps(http, "life", wait=20)
    assert some.steps[0].step == 1
    some = read_steps(http, "life", after=1, wait=20)
    assert [row.step for row in some.steps] == [2]
    assert some.waiting_for == 1

    assert put_shard(http, second).status_code == 201
    rest = read_steps(http, "life", after=2, wait=20, gather=20)
    assert [row.step for row in rest.steps] == [3, 4]
    assert (rest.step, rest.target, rest.state) == (4, 4, "idle")

    state = http.get("/runs/life").json()
    assert (state["step"], state["durable_step"], state["segments"]) == (4, 0, 1)
    assert state["digest"] == rest.steps[-1].digest
    assert len(state["weights_sha256"]) == 64


def test_every_write_can_be_sent_again(http: httpx.Client) -> None:
    make_run(http, "again")
    tensors = shard(3)
    given = segment(tensors, samples=8)
    for _ in range(2):
        assert put_segment(http, "again", given).status_code == 200
    assert put_shard(http, tensors).json()["stored"] is True
    repeated = put_shard(http, tensors)
    assert (repeated.status_code, repeated.json()["stored"]) == (200, False)
    for _ in range(2):
        assert advance(http, "again", 2).json()["target"] == 2
    assert advance(http, "again", 1).json()["target"] == 2
    confirmed = http.put("/runs/again", json={"id": id_of("again"), "config": CONFIG})
    assert confirmed.status_code == 200
    assert [row.step for row in read_steps(http, "again", wait=20, gather=20).steps] == [1, 2]


def test_another_runs_owner_changes_nothing(http: httpx.Client) -> None:
    make_run(http, "owned")
    other = "b" * 32
    tensors = shard(4)
    replies = [
        http.put("/runs/owned", json={"id": other, "config": CONFIG}),
        put_segment(http, "owned", segment(tensors, samples=8), run_id=other),
        advance(http, "owned", 1, run_id=other),
        http.put("/runs/owned/control", json={"run_id": other, "revision": 1, "paused": True}),
        http.delete("/runs/owned", params={"run_id": other}),
    ]
    assert {(reply.status_code, reply.json()["code"]) for reply in replies} == {(409, "other_run")}
    changed = http.put("/runs/owned", json={"id": id_of("owned"), "config": CONFIG | {"seed": 7}})
    assert (changed.status_code, changed.json()["code"]) == (409, "other_config")
    assert http.get("/runs/owned/plan").json()["segments"] == []


def test_a_segment_that_contradicts_the_plan_is_refused(http: httpx.Client) -> None:
    make_run(http, "plan")
    first, second = shard(5), shard(6)
    assert put_segment(http, "plan", segment(first, samples=16)).status_code == 200
    for wrong in (segment(second, samples=16), segment(first, samples=17)):
        reply = put_segment(http, "plan", wrong)
        assert (reply.status_code, reply.json()["code"]) == (409, "plan_conflict")
    assert put_segment(http, "plan", segment(first, second, samples=16)).status_code == 200
    assert put_segment(http, "plan", segment(first, samples=16)).status_code == 200
    plan = http.get("/runs/plan/plan").json()
    assert [len(item["shards"]) for item in plan["segments"]] == [2]


def test_a_paused_run_waits(http: httpx.Client) -> None:
    make_run(http, "paused")
    tensors = shard(7)
    put_shard(http, tensors)
    put_segment(http, "paused", segment(tensors, samples=8))
    control = {"run_id": id_of("paused"), "revision": 2, "paused": True}
    assert http.put("/runs/paused/control", json=control).json()["state"] == "paused"
    older = {"run_id": id_of("paused"), "revision": 1, "paused": False}
    assert http.put("/runs/paused/control", json=older).json()["paused"] is True
    assert advance(http, "paused", 2).json()["step"] == 0
    http.put("/runs/paused/control", json=control | {"revision": 3, "paused": False})
    assert read_steps(http, "paused", wait=20, gather=20).step == 2


def test_a_removed_id_stays_dead(http: httpx.Client) -> None:
    dead = id_of("removed")
    make_run(http, "removed")
    assert http.delete("/runs/removed", params={"run_id": dead}).json()["id"] == dead
    gone = http.put("/runs/removed", json={"id": dead, "config": CONFIG})
    assert (gone.status_code, gone.json()["code"]) == (410, "run_deleted")
    assert http.get("/runs/removed").status_code == 404
    assert "removed" not in [run["run"] for run in http.get("/runs").json()["runs"]]


def test_shards_are_asked_for_by_name(http: httpx.Client) -> None:
    here, elsewhere = shard(8), shard(9)
    put_shard(http, here)
    names = [tensors_sha256(elsewhere), tensors_sha256(here)]
    assert http.head(f"/shards/{names[1]}").status_code == 200
    assert http.head(f"/shards/{names[0]}").status_code == 404
    assert http.post("/shards/missing", json={"shards": names}).json() == {"missing": names[:1]}


@pytest.mark.parametrize("body", [b"", b"no shard", encode_shard(shard(10))[:-1]])
def test_a_damaged_shard_is_refused(http: httpx.Client, body: bytes) -> None:
    name = tensors_sha256(shard(10))
    reply = http.put(f"/shards/{name}", content=body, headers=ZSTD)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_shard")
    assert http.head(f"/shards/{name}").status_code == 404


def test_a_shard_under_another_name_is_refused(http: httpx.Client) -> None:
    reply = http.put(f"/shards/{'0' * 64}", content=pack(shard(11)), headers=TENSORS)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_shard")


def test_outputs_and_scores_of_shards_change_nothing(http: httpx.Client) -> None:
    make_run(http, "compute")
    tensors = shard(12)
    put_shard(http, tensors)
    before = http.get("/runs/compute").json()
    asked = {"shards": [tensors_sha256(tensors)] * 2}

    outputs = http.post("/runs/compute/predict", json=asked, headers={"Accept-Encoding": "zstd"})
    plain = http.post("/runs/compute/predict", json=asked, headers={"Accept-Encoding": "gzip"})
    scores = EvaluateReply.model_validate_json(
        http.post("/runs/compute/evaluate", json=asked).content
    )

    assert (outputs.headers["content-encoding"], outputs.headers["omega21-step"]) == ("zstd", "0")
    assert "content-encoding" not in plain.headers
    assert outputs.content == plain.content  # httpx has undone the encoding
    arrays, metadata = unpack(plain.content)
    assert metadata == {"step": "0"}
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {"anomaly_prob": (16,), "dendrites": (16, 16), "coherence": (16, 64)}
    assert (scores.samples, scores.step) == (16, 0)
    np.testing.assert_array_equal(scores.score_array(), arrays["anomaly_prob"])
    assert http.get("/runs/compute").json() == before


def test_a_shard_that_is_not_there_cannot_be_computed(http: httpx.Client) -> None:
    make_run(http, "absent")
    reply = http.post("/runs/absent/predict", json={"shards": ["0" * 64]})
    assert (reply.status_code, reply.json()["code"]) == (404, "unknown_shard")


def test_weights_are_named_by_their_digest(http: httpx.Client) -> None:
    make_run(http, "weights")
    reply = http.get("/runs/weights/checkpoint", params={"part": "weights"})
    arrays = safetensors.numpy.load(reply.content)
    digest = tensors_sha256(arrays)
    assert reply.headers["etag"] == f'"{digest}"'
    assert digest == http.get("/runs/weights").json()["weights_sha256"]
    assert reply.headers["omega21-step"] == "0"
    assert "content-encoding" not in reply.headers


def test_a_restarted_server_has_its_runs(server: RunningServer, http: httpx.Client) -> None:
    make_run(http, "restarted")
    tensors = shard(13)
    put_shard(http, tensors)
    put_segment(http, "restarted", segment(tensors, samples=8))
    advance(http, "restarted", 2)
    before = read_steps(http, "restarted", wait=20, gather=20)
    assert before.step == 2

    assert server.stop() == 0
    server.restart()

    with httpx.Client(base_url=server.address, timeout=60) as again:
        after = read_steps(again, "restarted", after=1, wait=20, gather=20)
    assert after.digest == before.digest
    assert after.steps == before.steps[1:]
