"""Loggers: each gets every step once, whatever happens to it, to the run or to the process."""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from omega21 import AsyncClient
from omega21.client.events import Notice, StepsDone
from omega21.client.loggers import LoggedRun, LoggerChoice, Point, load_logger
from omega21.client.request.request import TrainRequest
from omega21.client.training.options import TrainOptions
from omega21.protocol.errors import ExtraMissing, InvalidRequest
from tests.client.runs import done, of_type, stored, tiny
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


@dataclass
class Kept:
    """Keeps what it is given."""

    started: list[LoggedRun] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    finished: int = 0

    def start(self, run: LoggedRun) -> None:
        self.started.append(run)

    def log(self, points: Sequence[Point]) -> None:
        self.points += points

    def finish(self) -> None:
        self.finished += 1

    def steps(self, figure: str = "loss") -> list[int]:
        return [point.step for point in self.points if figure in point.metrics]


class Failing(Kept):
    """Fails when it is given something."""

    def log(self, points: Sequence[Point]) -> None:
        raise RuntimeError(f"no room for {len(points)} points")


def client_of(server: RunningServer) -> AsyncClient:
    return AsyncClient(server.address, token=server.token)


async def train(
    client: AsyncClient, order: TrainRequest, workdir: Path, *loggers: LoggerChoice
) -> list[object]:
    async with client.train(order, TrainOptions(workdir=workdir, loggers=loggers)) as events:
        return [event async for event in events]


async def test_a_logger_gets_the_run_each_step_and_the_evaluations(
    server: RunningServer, tmp_path: Path
) -> None:
    kept = Kept()
    async with client_of(server) as client:
        events = await train(client, tiny("logged", epochs=2), tmp_path, kept)

    (run,) = kept.started
    assert (run.name, run.folder) == ("logged", tmp_path / "logged")
    assert run.parameters.items() >= {"samples": 600, "kind": "simple", "seed": 42}.items()
    assert any("learning_rate" in name for name in run.parameters)
    assert kept.steps() == list(range(1, 21))
    assert [point.metrics["loss"] for point in kept.points if "loss" in point.metrics] == [
        loss for _, loss, _ in stored(tmp_path / "logged")
    ]
    evaluated = [point for point in kept.points if "evaluation/auroc" in point.metrics]
    assert evaluated[-1].step == 20
    assert evaluated[-1].metrics["evaluation/auroc"] == done(events).summary.metrics["auroc"]  # type: ignore[arg-type]
    assert kept.finished == 1


async def test_no_step_is_logged_twice_after_a_stop_or_in_the_next_segment(
    server: RunningServer, tmp_path: Path
) -> None:
    first, second, third = Kept(), Kept(), Kept()
    async with client_of(server) as client:
        async with client.train(
            tiny("logged-twice", epochs=40), TrainOptions(workdir=tmp_path, loggers=[first])
        ) as events:
            async for event in events:
                if isinstance(event, StepsDone):
                    break
        await train(client, tiny("logged-twice", epochs=40), tmp_path, second)
        await train(client, tiny("logged-twice", samples=100), tmp_path, third)

    assert [*first.steps(), *second.steps()] == list(range(1, 401))
    assert third.steps() == [401, 402]
    assert second.steps("evaluation/auroc")[-1] == 400
    assert third.steps("evaluation/auroc") == [402]


async def test_a_logger_that_is_chosen_late_gets_the_run_from_its_first_step(
    server: RunningServer, tmp_path: Path
) -> None:
    late = Kept()
    async with client_of(server) as client:
        await train(client, tiny("late"), tmp_path)
        await train(client, tiny("late", samples=100), tmp_path, late)

    assert late.steps() == list(range(1, 13))


async def test_a_logger_that_fails_is_told_once_and_harms_nobody(
    server: RunningServer, tmp_path: Path
) -> None:
    failing, kept = Failing(), Kept()
    async with client_of(server) as client:
        events = await train(client, tiny("failing", epochs=3), tmp_path, failing, kept)

    notices = [notice.text for notice in of_type(events, Notice)]  # type: ignore[arg-type]
    told = [text for text in notices if "Failing failed" in text]
    assert len(told) == 1
    assert "RuntimeError: no room for" in told[0]
    assert kept.steps() == list(range(1, 31))
    assert len(stored(tmp_path / "failing")) == 30


async def test_a_slow_logger_holds_nobody_up_and_gets_the_rest_the_next_time(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from omega21.client.loggers import feeding

    is_let_go = threading.Event()

    class Stuck(Kept):
        def start(self, run: LoggedRun) -> None:
            is_let_go.wait()
            super().start(run)

    monkeypatch.setattr(feeding.Feeds.finish, "__defaults__", (0.01,))
    monkeypatch.setattr("omega21.client.training.session.STOP_SECONDS", 0.01)
    async with client_of(server) as client:
        events = await train(client, tiny("slow"), tmp_path, Stuck())
        notices = [notice.text for notice in of_type(events, Notice)]  # type: ignore[arg-type]
        is_let_go.set()
        monkeypatch.undo()
        again = Stuck()
        await train(client, tiny("slow", samples=100), tmp_path, again)

    assert any("Stuck is behind" in text for text in notices)
    assert again.steps()[-2:] == [11, 12]
    assert again.steps() == sorted(set(again.steps()))


# --- the built-in ones ----------------------------------------------------------------------------


def scalars(folder: Path) -> Iterator[tuple[int, str, float]]:
    """Read event files as any other program does: by the library's own protocol buffers."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[import-untyped]

    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                yield event.step, value.tag, value.simple_value


async def test_tensorboard_event_files_are_what_tensorboard_reads(
    server: RunningServer, tmp_path: Path
) -> None:
    async with client_of(server) as client:
        await train(client, tiny("board"), tmp_path, "tensorboard")
        await train(client, tiny("board", samples=100), tmp_path, "tensorboard")

    found = list(scalars(tmp_path / "board" / "tensorboard"))
    losses = {step: value for step, tag, value in found if tag == "loss"}
    assert [step for step, tag, _ in found if tag == "loss"] == list(range(1, 13))
    for step, loss, _ in stored(tmp_path / "board"):
        assert losses[step] == pytest.approx(loss, rel=1e-6)
    assert {"metrics/anomaly_prob", "samples_per_second", "evaluation/auroc"} <= {
        tag for _, tag, _ in found
    }


def test_checksums_are_those_of_the_library() -> None:
    from tensorboardX.record_writer import masked_crc32c  # type: ignore[import-untyped]

    from omega21.client.loggers.tensorboard import _checksum

    for data in (b"", b"a", bytes(range(256)), b"123456789" * 100):
        assert _checksum(data) == struct.pack("<I", masked_crc32c(data))


async def test_mlflow_keeps_one_run_in_the_folder(server: RunningServer, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    async with client_of(server) as client:
        await train(client, tiny("flow"), tmp_path, "mlflow")
        await train(client, tiny("flow", samples=100), tmp_path, "mlflow")

    place = MlflowClient(tracking_uri=(tmp_path / "flow" / "mlruns").as_uri())
    experiment = place.get_experiment_by_name("omega21")
    assert experiment is not None
    (found,) = place.search_runs([experiment.experiment_id])
    assert found.info.run_name == "flow"
    assert found.info.status == "FINISHED"
    assert found.data.params["kind"] == "simple"
    history = place.get_metric_history(found.info.run_id, "loss")
    assert sorted(metric.step for metric in history) == list(range(1, 13))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_what_reports_elsewhere_works_without_a_network(
    name: str, server: RunningServer, tmp_path: Path
) -> None:
    """In a process of its own, since both leave things running in theirs.

    Offline W&B and Trackio's local database; what goes over the network is theirs.
    """
    code = f"""
import sys
from pathlib import Path
from omega21 import Client
from tests.client.runs import tiny
from omega21.client.events import Notice
from omega21.client.training.options import TrainOptions
with Client({server.address!r}, token={server.token!r}) as client:
    order = tiny({name!r})
    options = TrainOptions(workdir=Path({str(tmp_path)!r}), loggers=[{name!r}])
    for event in client.train(order, options):
        if isinstance(event, Notice):
            sys.exit(event.text)
"""
    environment = {
        **os.environ,
        "WANDB_MODE": "offline",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HOME": str(tmp_path),
    }
    finished = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        encoding="utf-8",
    )

    assert finished.returncode == 0, finished.stderr
    if name == "wandb":
        assert list((tmp_path / "wandb" / "wandb").glob("offline-run-*/run-*.wandb"))
    else:
        assert (tmp_path / "trackio" / "omega21.db").stat().st_size > 0


# --- names ----------------------------------------------------------------------------------------


def test_a_logger_of_ones_own_is_named_by_module_and_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "class Mine:\n" + "".join(
        f"    def {name}(self, what=None): pass\n" for name in ("start", "log", "finish")
    )
    (tmp_path / "beside.py").write_text(source + "class Half:\n    def start(self, run): pass\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)

    assert type(load_logger("beside:Mine")).__name__ == "Mine"
    assert sys.path == before
    assert load_logger("tensorboard") == "tensorboard"
    for wrong, why in (
        ("beside:None_", "no attribute"),
        ("beside:Half", "it has no log, finish"),
        ("nowhere:Mine", "No module named"),
        ("comet", "there is no logger 'comet'"),
        (":", "is not a logger"),
    ):
        with pytest.raises(InvalidRequest, match=why):
            load_logger(wrong)


def test_one_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omega21.client.loggers.find_spec", lambda _: None)
    with pytest.raises(ExtraMissing, match=r"pip install '\.\[mlflow\]'"):
        load_logger("mlflow")


def test_none_is_loaded_until_it_is_used() -> None:
    code = (
        "import sys, omega21.cli.training, omega21.client.client as c; "
        "print([m for m in ('tensorboardX', 'mlflow', 'wandb', 'trackio', 'matplotlib', 'torch')"
        " if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"
