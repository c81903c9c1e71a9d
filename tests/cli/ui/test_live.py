"""What a training shows as its events come in, at 80 columns."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from rich.console import Console

from omega21.cli.ui.live import JsonView, LiveView, PlainView
from omega21.cli.ui.output import Output
from omega21.cli.ui.progress import StepTime
from omega21.cli.ui.result import show_outcome
from omega21.client.events import (
    Connected,
    Done,
    Evaluated,
    Event,
    LinkLost,
    LinkRestored,
    Notice,
    RunReady,
    ServerSeen,
    StateChanged,
    StepsDone,
    UploadProgress,
)
from omega21.client.http.usage import Traffic
from omega21.client.store.summary import Summary
from omega21.models.registry import default_config
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.legacy import (
    Architecture,
    FeedbackStatistics,
    Flow,
    Info,
    Statistics,
    Status,
)
from omega21.protocol.plan import Segment, Source
from omega21.protocol.runs import RunState, RunSummary
from omega21.protocol.steps import StepRecord

DIGEST = "0" * 64
FIGURES: dict[str, Any] = {
    "run": "mi-corrida",
    "id": "0" * 32,
    "target": 12,
    "plan_steps": 12,
    "durable_step": 0,
    "paused": False,
    "revision": 0,
    "digest": DIGEST,
}


def position(step: int, state: str = "training") -> RunSummary:
    return RunSummary.model_validate({**FIGURES, "step": step, "state": state})


def rows(first: int, last: int) -> tuple[StepRecord, ...]:
    """Half a second a step; the loss falls by 0.01 a step, from 0.5."""
    return tuple(
        StepRecord(
            step=step,
            loss=0.5 - 0.01 * step,
            samples=64,
            digest=DIGEST,
            ended_at=1000 + step / 2,
            seconds=0.5,
            metrics={"anomaly_prob": 0.125, "capa2_activations": 0.5},
        )
        for step in range(first, last + 1)
    )


INFO = Info(
    nombre="CortezaCognitivaV4",
    version="0.1.0",
    arquitectura=Architecture(capas=[], parametros_totales=11_940_000, parametros_entrenables=1),
    flujo=Flow(entrada="", procesamiento="", salida=""),
    protocol=1,
    server_id="s",
    run="default",
)
SEGMENT = Segment(
    samples=640, batch_size=64, source=Source(kind="neuronal", seed=42, anomaly_percent=10)
)
BEGIN: list[Event] = [
    Connected("https://abc.ngrok-free.app", INFO),
    RunReady(
        "continued", "mi-corrida", "0" * 32, 1, SEGMENT, 3, 12, position(2, "waiting"), "corteza"
    ),
    StateChanged(position(2, "waiting")),
    UploadProgress(generated=512, uploaded=256, samples=640, bytes_sent=1_600_000),
]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


STATUS = Status(
    modelo="CortezaCognitivaV4",
    estadisticas=Statistics(
        total_muestras=640,
        total_batches=10,
        loss_promedio_global=0.4,
        loss_promedio_ultimos_100=0.4,
        anomalia_media=0.1,
        tiempo_transcurrido_seg=9.0,
        dispositivo="Tesla T4",
        gpu_memoria_mb=2100.0,
        feedback=FeedbackStatistics(recibido=0, exitoso=0, tasa_exito=0.0),
    ),
    torch_version="2.13.0",
    cuda_available=True,
    run="mi-corrida",
    state="training",
    step=8,
    target=12,
    durable_step=4,
    restarts=1,
)
TRAFFIC = Traffic(requests=24, bytes_sent=3_200_000, bytes_received=120_000)


def live(events: Sequence[Event], *, width: int = 80, encoding: str = "utf-8") -> str:
    """The live view after these events, a second apart, without colours."""
    clock = iter(range(1000))
    view = LiveView(Output(quiet=True), TRAFFIC, get_time=lambda: float(next(clock)))
    for event in events:
        view.show(event)
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding=encoding)
    Console(file=file, width=width, force_terminal=False).print(view)
    file.flush()
    shown = written.getvalue().decode(encoding)
    return "\n".join(line.rstrip() for line in shown.splitlines())


def test_figures_that_do_not_fit_beside_each_other_stand_below() -> None:
    shown = live([*BEGIN, StepsDone(rows(3, 8), position(8))], width=50)
    assert "loss 0.4200 (first 0.4700)" in shown
    assert "anomaly probability 0.125" in shown
    assert "128 samples/s" in shown
    assert max(map(len, shown.splitlines())) <= 50


def plain(events: Sequence[Event], capsys: pytest.CaptureFixture[str]) -> list[str]:
    view = PlainView(Output())
    for event in events:
        view.show(event)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def sorted_lines(shown: str) -> list[str]:
    """The lines of a view, the first two the other way round: training, then upload."""
    upload, train, *rest = shown.splitlines()
    return [train, upload, *rest]


def test_the_live_view_is_empty_before_anything_is_known() -> None:
    assert live([]) == ""


def test_the_live_view_waits_for_samples() -> None:
    train, upload, figures, machine, traffic, link = sorted_lines(live(BEGIN))

    assert upload.split()[2:] == ["256/640", "samples", "--:--"]
    assert train.split()[-3:] == ["0/10", "steps", "--:--"]
    assert figures == "no results yet"
    assert machine == "durable step 0"
    assert traffic == "3.2 MB up, 120 kB down, 24 requests"
    assert link == "connected to https://abc.ngrok-free.app  waiting for samples"


def test_the_live_view_shows_the_newest_figures_and_the_time_left() -> None:
    events = [*BEGIN, StepsDone(rows(3, 4), position(4)), StepsDone(rows(5, 8), position(8))]
    _, train, *_, figures, _, _, _ = live(events).splitlines()

    assert train.split()[2:4] == ["6/10", "steps"]
    assert train.split()[4] != "--:--"
    assert figures == "loss 0.4200 (first 0.4700)  anomaly probability 0.125  128 samples/s"


@pytest.mark.parametrize("speed", [0.05, 1.0, 20.0])
def test_the_time_left_does_not_jump_when_some_steps_are_slow(speed: float) -> None:
    """Batches of slow steps, as uploads and evaluations make them, then an hour's pause."""
    step_time, now, told = StepTime(), 0.0, []
    for step in range(1, 1001):
        seconds = speed * (4 if step % 50 < 5 else 1)
        now += seconds + (3600 if step == 900 else 0)
        row = StepRecord(step=step, samples=64, digest=DIGEST, ended_at=now, seconds=seconds)
        step_time.add(row)
        assert step_time.seconds is not None
        told.append(step_time.seconds)
    changes = [after / before for before, after in pairwise(told[100:])]
    assert 0.75 < min(changes) <= max(changes) < 1.35
    assert told[-1] == pytest.approx(1.3 * speed, rel=0.5)


def test_the_live_view_shows_the_trend_the_evaluation_and_the_machine() -> None:
    middling = EVALUATION.model_copy(update={"step": 8, "metrics": {"auroc": 0.75}})
    shown = live([*GOING, Evaluated(middling, 1, 0.0), ANOTHER])
    *_, evaluation, machine, traffic, link = shown.splitlines()

    assert evaluation == "AUROC 0.9995 at step 12, on 1,000 held-out samples  ▁█"
    assert machine == "device Tesla T4, 2.1 GB in use  restarts 1  durable step 0"
    assert traffic == "3.2 MB up, 120 kB down, 24 requests"
    assert link == "connected to https://abc.ngrok-free.app"
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_live_view_fits_any_width_and_encoding(width: int, encoding: str) -> None:
    shown = live([*GOING, ANOTHER], width=width, encoding=encoding)

    assert max(map(len, shown.splitlines())) <= width
    curve = [line.partition("│" if encoding == "utf-8" else "|") for line in shown.splitlines()]
    drawn = [line[2] for line in curve if line[1]]
    assert len(drawn) == 5
    assert all(line.strip(" \u2800") for line in drawn)
    assert "loss 0.4200" in shown


def test_the_live_view_says_that_the_link_is_lost_and_goes_on() -> None:
    lost = [*BEGIN, LinkLost(0.0, "the connection failed " + "very " * 20)]
    *_, link = live(lost).splitlines()
    *_, again = live([*lost, LinkRestored(), StateChanged(position(2))]).splitlines()

    assert link.startswith("unreachable since ")
    assert len(link) <= 80
    assert again == "connected to https://abc.ngrok-free.app  training"


def test_the_live_view_of_a_folder_says_so() -> None:
    stored = RunReady("stored", "mi-corrida", "0" * 32, 1, SEGMENT, 3, 12, position(12, "idle"))
    shown = live([stored, StepsDone(rows(3, 12), position(12, "idle"))])

    assert "upload" not in shown
    assert shown.splitlines()[-1] == "from the run folder, without its server  done"


def test_the_live_view_scores_at_the_end_and_fits_80_columns() -> None:
    whole = [*BEGIN, StepsDone(rows(3, 12), position(12, "idle"))]

    assert "scoring held-out samples" in live(whole)
    assert "scoring" not in live([*whole, DONE])
    assert all(len(line) <= 80 for line in live(whole).splitlines())


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        *BEGIN,
        UploadProgress(generated=640, uploaded=640, samples=640, bytes_sent=4_000_000),
        Notice("sending again what the server lost"),
        StepsDone(rows(3, 3), position(3)),
        LinkLost(0.0, "the connection failed"),
        LinkRestored(),
        ServerSeen(STATUS),
        StepsDone(rows(4, 7), position(7)),
        ServerSeen(STATUS),
        StepsDone(rows(8, 12), position(12, "idle")),
        Evaluated(EVALUATION, 1, 0.0),
        DONE,
    ]
    lines = plain(events, capsys)
    lost = lines.pop(6)

    assert lost.startswith("unreachable since ")
    assert lines == [
        "connected to https://abc.ngrok-free.app: omega21 0.1.0, 11.9 million parameters",
        "run mi-corrida, continued: 640 samples (neuronal) in 10 steps of 64",
        "uploaded 256 of 640 samples",
        "uploaded 640 of 640 samples",
        "sending again what the server lost",
        "step 1 of 10  loss 0.4700 (first 0.4700)  anomaly probability 0.125  128 samples/s"
        "  4 s left",
        "connected to https://abc.ngrok-free.app",
        "device Tesla T4, 2.1 GB in use  restarts 1  durable step 0",
        "step 5 of 10  loss 0.4300 (first 0.4700)  anomaly probability 0.125  128 samples/s"
        "  2 s left",
        "step 10 of 10  loss 0.3800 (first 0.4700)  anomaly probability 0.125  128 samples/s",
        "AUROC 0.9995 at step 12, on 1,000 held-out samples",
    ]


def test_json_lines_and_what_is_unusual_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView(Output(json=True), TRAFFIC)
    for event in [*BEGIN, Notice("sending again"), StepsDone(rows(3, 4), position(4))]:
        view.show(event)
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]

    assert err == "sending again\n"
    assert [line["event"] for line in lines] == [
        *("connected", "run_ready", "state_changed", "upload_progress", "notice", "steps_done")
    ]
    assert lines[1]["segment"]["samples"] == 640
    assert "shards" not in lines[1]["segment"]
    assert lines[-1]["rows"][0].items() >= {"step": 3, "loss": 0.47, "samples": 64}.items()
    assert lines[-1].items() >= {"requests": 24, "bytes_sent": 3_200_000}.items()


def test_plain_lines_come_with_each_tenth_of_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    uploads = [
        UploadProgress(generated=1000, uploaded=done, samples=1000, bytes_sent=0)
        for done in range(0, 1001, 10)
    ]
    assert len(plain(uploads, capsys)) == 10


SUMMARY = Summary(
    run="mi-corrida",
    steps=10,
    samples=640,
    batch_size=64,
    epochs=1,
    kind="neuronal",
    seed=42,
    loss_first=0.47,
    loss_last=0.38,
    validation_loss=0.1,
    metrics={},
    validation_samples=1000,
    seconds=7.25,
    samples_per_second=128.4,
    weights_sha256="ab" * 32,
    task="corteza",
)
STATE = RunState.model_validate(
    {
        **FIGURES,
        "step": 12,
        "state": "idle",
        "weights_sha256": DIGEST,
        "segments": 2,
        "plan_sha256": DIGEST,
        "non_finite_in_a_row": 0,
        "waiting_for": [],
        "environments": [],
        "config": default_config(),
        "created_at": 0.0,
    }
)
EVALUATION = Evaluation(
    step=12,
    samples=1000,
    loss=0.1,
    metrics={
        "auroc": 0.99951,
        "average_precision": None,
        "positives": 100,
        "true_positives": 98,
        "false_positives": 1,
        "anomaly_prob": 0.125,
        "capa2_activations": 0.5,
    },
)
DONE = Done(SUMMARY, STATE, EVALUATION)
GOING: list[Event] = [*BEGIN, StepsDone(rows(3, 8), position(8)), ServerSeen(STATUS)]
ANOTHER = Evaluated(EVALUATION, 1, 0.0)


def shown(done: Done, capsys: pytest.CaptureFixture[str]) -> str:
    show_outcome(done, Output())
    return capsys.readouterr().out


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(DONE, capsys) == (
        "run             mi-corrida, at step 12\n"
        "trained         640 samples (neuronal, seed 42)\n"
        "steps           10 of 64 samples, 1 epoch\n"
        "loss            0.4700 first, 0.3800 last\n"
        "AUROC           0.9995 on 1,000 held-out samples\n"
        "avg. precision  -\n"
        "positives       98 of 100 found, 1 false positive\n"
        "speed           128 samples/s; 7.2 s in all\n"
        f"weights         {'ab' * 32}\n"
    )


OWN: dict[str, float | None] = {"top-1": 0.9375, "perplexity": 12.5, "a": 0.0, "b": 1.0}
"""What a model of the user's own gives."""


def test_the_report_of_any_task_shows_its_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = Evaluation(step=12, samples=1000, loss=0.25, metrics={**OWN, "a": None})
    text = shown(Done(replace(SUMMARY, task="code"), STATE, evaluation), capsys)
    assert (
        "top-1       0.9375 on 1,000 held-out samples\n"
        "perplexity  12.5000\n"
        "a           -\n"
        "speed       "
    ) in text

    plain_loss = evaluation.model_copy(update={"metrics": {}, "step": 8})
    text = shown(Done(replace(SUMMARY, task="code"), STATE, plain_loss), capsys)
    assert "held-out loss  0.2500 at step 8, on 1,000 held-out samples\n" in text

    scored = evaluation.model_copy(update={"metrics": EVALUATION.metrics | {"f1": 0.5}})
    text = shown(Done(replace(SUMMARY, task="code"), STATE, scored), capsys)
    assert re.search(r"^AUROC +0\.9995 on 1,000 held-out samples$", text, re.MULTILINE)
    assert re.search(r"^positives +98 of 100 found, 1 false positive$", text, re.MULTILINE)
    assert re.search(r"^f1 +0\.5000$", text, re.MULTILINE)

    without = replace(SUMMARY, task="code", validation_samples=0, training_metrics=OWN)
    text = shown(Done(without, STATE, None), capsys)
    assert "top-1       0.9375\nperplexity  12.5000\na           0.0000\n" in text


def test_the_live_view_of_any_task_shows_three_of_its_metrics() -> None:
    begin = [
        replace(event, task="code") if isinstance(event, RunReady) else event for event in BEGIN
    ]
    own = tuple(row.model_copy(update={"metrics": OWN}) for row in rows(3, 8))
    evaluation = Evaluation(step=8, samples=1000, loss=0.25, metrics=OWN)
    text = live([*begin, StepsDone(own, position(8)), Evaluated(evaluation, 1, 0.0)])
    assert "top-1 0.938  perplexity 12.500  a 0.000" in text
    assert "b 1.000" not in text
    assert "top-1 0.9375 at step 8, on 1,000 held-out samples" in text


def test_the_report_says_that_nothing_was_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(Done(replace(SUMMARY, validation_samples=0), STATE, None), capsys)
    assert "held out  nothing, so there are no scores\n" in text
