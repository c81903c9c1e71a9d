"""What a training shows as its events come in, at 80 columns."""

import io
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from omega21.cli.output import Output
from omega21.cli.report import report
from omega21.cli.view import LiveView, PlainView
from omega21.client.events import (
    Connected,
    Done,
    Event,
    LinkLost,
    LinkRestored,
    Notice,
    RunReady,
    StateChanged,
    StepsDone,
    UploadProgress,
)
from omega21.client.summary import Evaluation, Summary
from omega21.protocol.classic import Architecture, Flow, Info
from omega21.protocol.plan import Segment, Source
from omega21.protocol.runs import RunConfig, RunState, RunSummary
from omega21.protocol.steps import StepRow

DIGEST = "0" * 64
FIGURES: dict[str, Any] = {
    "run": "mi-corrida",
    "id": "0" * 32,
    "target": 12,
    "plan_steps": 12,
    "durable_step": 0,
    "paused": False,
    "generation": 0,
    "digest": DIGEST,
}


def position(step: int, state: str = "training") -> RunSummary:
    return RunSummary.model_validate({**FIGURES, "step": step, "state": state})


def rows(first: int, last: int) -> tuple[StepRow, ...]:
    """Half a second a step; the loss falls by 0.01 a step, from 0.5."""
    return tuple(
        StepRow(
            step=step,
            loss=0.5 - 0.01 * step,
            anomaly_prob=0.125,
            samples=64,
            digest=DIGEST,
            ended_at=1000 + step / 2,
            seconds=0.5,
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
    RunReady("continued", "mi-corrida", "0" * 32, 1, SEGMENT, 3, 12, position(2, "waiting")),
    StateChanged(position(2, "waiting")),
    UploadProgress(generated=512, uploaded=256, samples=640, bytes_sent=1_600_000),
]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def live(events: Sequence[Event]) -> str:
    """The live view after these events, a second apart, without colours."""
    clock = iter(range(1000))
    view = LiveView(Output(quiet=True), get_time=lambda: float(next(clock)))
    for event in events:
        view.show(event)
    screen = Console(file=io.StringIO(), width=80, force_terminal=False)
    screen.print(view)
    assert isinstance(screen.file, io.StringIO)
    return "\n".join(line.rstrip() for line in screen.file.getvalue().splitlines())


def plain(events: Sequence[Event], capsys: pytest.CaptureFixture[str]) -> list[str]:
    view = PlainView(Output())
    for event in events:
        view.show(event)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_the_live_view_waits_for_samples() -> None:
    upload, train, figures, link = live(BEGIN).splitlines()

    assert upload.split()[2:] == ["256/640", "samples", "--:--"]
    assert train.split()[-3:] == ["0/10", "steps", "--:--"]
    assert figures == "no results yet"
    assert link == "connected to https://abc.ngrok-free.app  waiting for samples"


def test_the_live_view_shows_the_newest_figures_and_the_time_left() -> None:
    events = [*BEGIN, StepsDone(rows(3, 4), position(4)), StepsDone(rows(5, 8), position(8))]
    _, train, figures, _ = live(events).splitlines()

    assert train.split()[2:4] == ["6/10", "steps"]
    assert train.split()[4] != "--:--"
    assert figures == "loss 0.4200 (first 0.4700)  anomaly probability 0.125  128 samples/s"


def test_the_live_view_says_that_the_link_is_lost_and_goes_on() -> None:
    lost = [*BEGIN, LinkLost(0.0, "the connection failed " + "very " * 20)]
    *_, link = live(lost).splitlines()
    *_, again = live([*lost, LinkRestored(), StateChanged(position(2))]).splitlines()

    assert link.startswith("unreachable since ")
    assert len(link) <= 80
    assert again == "connected to https://abc.ngrok-free.app  training"


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
        StepsDone(rows(4, 12), position(12, "idle")),
        DONE,
    ]
    lines = plain(events, capsys)
    lost = lines.pop(6)

    assert lost.startswith("unreachable since ")
    assert lines == [
        "connected to https://abc.ngrok-free.app: omega21 0.1.0, CortezaCognitivaV4, "
        "11.9 million parameters",
        "run mi-corrida, continued: 640 samples (neuronal) in 10 steps of 64",
        "uploaded 256 of 640 samples",
        "uploaded 640 of 640 samples",
        "sending again what the server lost",
        "step 1 of 10  loss 0.4700 (first 0.4700)  anomaly probability 0.125  128 samples/s",
        "connected to https://abc.ngrok-free.app",
        "step 10 of 10  loss 0.3800 (first 0.4700)  anomaly probability 0.125  128 samples/s",
    ]


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
    auroc=0.99951,
    average_precision=None,
    validation_samples=1000,
    seconds=7.25,
    samples_per_second=128.4,
    weights_sha256="ab" * 32,
)
STATE = RunState.model_validate(
    {
        **FIGURES,
        "step": 12,
        "state": "idle",
        "weights_sha256": DIGEST,
        "segments": 2,
        "plan_sha256": DIGEST,
        "refused_in_a_row": 0,
        "waiting_for": [],
        "stretches": [],
        "config": RunConfig(),
        "created_at": 0.0,
    }
)
EVALUATION = Evaluation(
    step=12,
    samples=1000,
    anomalies=100,
    found=98,
    false_alarms=1,
    loss=0.1,
    auroc=0.99951,
    average_precision=None,
)
DONE = Done(SUMMARY, STATE, EVALUATION)


def shown(done: Done, capsys: pytest.CaptureFixture[str]) -> str:
    Output().result({}, report(done))
    return capsys.readouterr().out


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(DONE, capsys) == (
        "run             mi-corrida, at step 12\n"
        "trained         640 samples (neuronal, seed 42)\n"
        "steps           10 of 64 samples, 1 epoch\n"
        "loss            0.4700 first, 0.3800 last\n"
        "AUROC           0.9995 on 1000 held-out samples\n"
        "avg. precision  -\n"
        "anomalies       98 of 100 found, 1 false alarm\n"
        "speed           128 samples/s; 7.2 s in all\n"
        f"weights         {'ab' * 32}\n"
    )


def test_the_report_says_that_nothing_was_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(Done(SUMMARY, STATE, None), capsys)
    assert "held out  nothing, so there are no scores\n" in text
