"""What a watcher asks for over HTTP: series by long poll, evaluations, feedback, events."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from omega21.protocol.evaluations import EvaluationRow
from omega21.protocol.history import (
    EventsReply,
    FeedbackHistory,
    MemoryReply,
    SeriesReply,
)
from tests.server.routes.test_runs import (
    advance,
    id_of,
    make_run,
    put_segment,
    put_shard,
    read_steps,
    segment,
    shard,
)
from tests.servers import RunningServer

FIGURES = {
    "step": 5, "samples": 10, "loss": 0.25,
    "metrics": {"auroc": 0.75, "average_precision": None, "top-1": 0.5},
}  # fmt: skip


def train(http: httpx.Client, run: str, *, seed: int) -> None:
    """Five steps on twenty samples."""
    make_run(http, run)
    tensors = shard(seed, 20)
    put_shard(http, tensors)
    put_segment(http, run, segment(tensors, samples=20))
    advance(http, run, 5)
    read_steps(http, run, after=4, wait=20)


def read_series(http: httpx.Client, run: str, **query: Any) -> SeriesReply:
    reply = http.get(f"/runs/{run}/series", params=query)
    assert reply.status_code == 200, reply.text
    return SeriesReply.model_validate_json(reply.content)


def record(http: httpx.Client, run: str, **figures: Any) -> httpx.Response:
    return http.post(
        f"/runs/{run}/evaluations", json={"run_id": id_of(run)} | FIGURES | figures
    )  # fmt: skip


def test_a_series_covers_every_step(http: httpx.Client) -> None:
    train(http, "series", seed=1)
    fine, coarse = (read_series(http, "series", points=points) for points in (300, 3))
    assert (fine.width, fine.points.step) == (1, [1, 2, 3, 4, 5])
    assert (coarse.width, coarse.points.step) == (2, [2, 4, 5])
    assert sum(coarse.points.samples) == sum(fine.points.samples) == 20
    assert fine.points.vectors is None
    assert read_series(http, "series", after=5).points.step == []


@pytest.mark.parametrize("what", ["evaluation", "feedback", "pause"])
def test_whatever_is_new_ends_the_wait(
    server: RunningServer, http: httpx.Client, what: str
) -> None:
    run = f"news-{what}"
    make_run(http, run)
    known = read_series(http, run).etag

    def watch() -> SeriesReply:
        with httpx.Client(base_url=server.address, timeout=20) as other:  # less than the wait
            return read_series(other, run, known=known, wait=25)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        if what == "evaluation":
            assert record(http, run).status_code == 200
        elif what == "feedback":
            body = {"ajustes_aplicados": [0.5] * 16, "validacion": True}
            assert http.post("/feedback_dendritas", params={"run": run}, json=body).is_success
        else:
            control = {"run_id": id_of(run), "revision": 1, "paused": True}
            assert http.put(f"/runs/{run}/control", json=control).is_success
        assert watching.result().etag != known


def test_results_are_gathered_until_the_run_is_at_its_target(
    server: RunningServer, http: httpx.Client
) -> None:
    make_run(http, "gathered")
    tensors = shard(2, 20)
    put_shard(http, tensors)
    put_segment(http, "gathered", segment(tensors, samples=20))
    known = read_series(http, "gathered").etag
    with (
        ThreadPoolExecutor(1) as pool,
        httpx.Client(base_url=server.address, timeout=60) as other,
    ):
        watching = pool.submit(read_series, other, "gathered", known=known, wait=24, gather=24)
        advance(http, "gathered", 5)
        assert watching.result().points.step == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "query", ["points=1", "points=2001", "after=-1", "wait=-1", "known=" + "a" * 101, "more=1"]
)
def test_what_a_series_cannot_be_is_refused(http: httpx.Client, query: str) -> None:
    assert http.get(f"/runs/default/series?{query}").status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/runs/nobody/series",
        "/runs/nobody/feedback",
        "/runs/nobody/evaluations",
        "/events?run=nobody",
    ],
)
def test_a_run_that_does_not_exist_is_said_to(http: httpx.Client, path: str) -> None:
    reply = http.get(path)
    assert (reply.status_code, reply.json()["code"]) == (404, "unknown_run")


def test_an_evaluation_is_recorded_once_and_read_by_cursor(http: httpx.Client) -> None:
    make_run(http, "scored")
    rows = [EvaluationRow.model_validate_json(record(http, "scored").content) for _ in range(2)]
    assert rows[0] == rows[1]
    later = EvaluationRow.model_validate_json(record(http, "scored", step=6).content)
    listed = http.get("/runs/scored/evaluations").json()["evaluations"]
    after = http.get("/runs/scored/evaluations", params={"after": rows[0].number}).json()
    assert [row["number"] for row in listed] == [rows[0].number, later.number]
    assert listed[0] | FIGURES == listed[0]
    assert [row["step"] for row in after["evaluations"]] == [6]


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": -1},
        {"samples": 0},
        {"metrics": {"2nd": 0.5}},
        {"metrics": {"f1": "high"}},
        {"metrics": {f"m{number}": 0.0 for number in range(65)}},
        {"loss": "low"},
        {"not_finite": -1},
        {"more": 1},
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(
    http: httpx.Client, wrong: dict[str, object]
) -> None:
    before = http.get("/runs/default/evaluations").json()
    body = {"run_id": "0" * 32} | FIGURES | wrong
    reply = http.post("/runs/default/evaluations", json=body)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert http.get("/runs/default/evaluations").json() == before


def test_an_evaluation_of_another_run_is_refused(http: httpx.Client) -> None:
    make_run(http, "mine")
    reply = record(http, "mine", run_id="1" * 32)
    assert (reply.status_code, reply.json()["code"]) == (409, "other_run")


def test_feedback_is_listed_with_its_rate(http: httpx.Client) -> None:
    make_run(http, "told")
    for good in (True, False, True, True):
        body = {"ajustes_aplicados": [0.25] * 16, "validacion": good}
        assert http.post("/feedback_dendritas", params={"run": "told"}, json=body).is_success
    reply = http.get("/runs/told/feedback", params={"limit": 3})
    history = FeedbackHistory.model_validate_json(reply.content)
    assert [row.validated for row in history.feedback] == [False, True, True]
    assert history.feedback[0].adjustments == [0.25] * 16
    assert (history.statistics.recibido, history.statistics.tasa_exito) == (4, 0.75)


def test_memory_is_measured_while_it_trains(http: httpx.Client) -> None:
    train(http, "measured", seed=3)
    samples = MemoryReply.model_validate_json(http.get("/memory").content).samples
    assert len(samples) >= 2
    assert all(10 < (sample.process_mb or 0) < 100_000 for sample in samples)
    assert [s.at for s in samples] == sorted(s.at for s in samples)


def test_a_death_is_an_event(server: RunningServer, http: httpx.Client) -> None:
    server.kill_child()
    events = EventsReply.model_validate_json(http.get("/events").content).events
    assert (events[0].kind, events[0].run) == ("restarted", None)
    assert "SIGKILL" in events[0].detail
    assert "started" in {event.kind for event in events}


def test_prometheus_reads_what_the_status_says(http: httpx.Client) -> None:
    train(http, "figures", seed=4)
    assert record(http, "figures").is_success
    status = http.get("/status", params={"run": "figures"}).json()
    reply = http.get("/prometheus")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (
            sample.name,
            sample.labels.get("run"),
            sample.labels.get("state") or sample.labels.get("metric"),
        ): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }

    def figure(name: str, state: str | None = None) -> float:
        return samples[f"omega21_run_{name}", "figures", state]

    assert figure("step") == figure("target_step") == figure("steps_total") == 5
    assert figure("samples_total") == status["estadisticas"]["total_muestras"] == 20
    assert figure("evaluation_metric", "auroc") == 0.75
    assert figure("evaluation_metric", "top-1") == 0.5
    assert ("omega21_run_evaluation_metric", "figures", "average_precision") not in samples
    assert figure("state", "idle") == 1
    assert figure("state", "training") == 0
    assert samples["omega21_restarts_total", None, None] == status["restarts"]
    assert samples["omega21_resident_memory_bytes", None, None] > 1e7
    losses = read_steps(http, "figures").steps
    assert figure("loss") == losses[-1].loss
    assert losses[-1].metrics
    for name, value in losses[-1].metrics.items():
        assert figure("metric", name) == value
