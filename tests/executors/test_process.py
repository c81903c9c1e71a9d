"""Processes that compute: killed, stopped, hung, flooding their output; and what outlives what."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.executors.base import ExecutorDied
from omega21.executors.channel import Channel
from omega21.executors.devices import ProcessDevice
from omega21.executors.launcher import Launcher
from omega21.executors.options import DeviceOptions
from omega21.executors.remote import RemoteExecutor
from omega21.models.registry import small_config
from tests.engine.engines import CONFIG, DrivenRun, cut, make_samples, make_segment
from tests.engine.reference import Environment, train_plainly

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: signals of Linux")

SAMPLES = make_samples(24)
SHARDS = cut(SAMPLES, 9)
EPOCHS = 40
SEGMENT = make_segment(SHARDS, batch_size=4, epochs=EPOCHS)
OPTIONS = EngineOptions(device="cpu", threads=1, checkpoint_steps=20, checkpoint_seconds=1.0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "data", OPTIONS)
    engine.start()
    yield engine
    assert engine.stop(60)
    engine.close()


def executor_of(engine: Engine, run: DrivenRun) -> RemoteExecutor:
    found = engine.registry.get(run.name).executor
    assert isinstance(found, RemoteExecutor)
    return found


def kill_when_it_computes(engine: Engine, run: DrivenRun, step: int, number: int) -> int:
    """Send a signal to what computes the run, once it is past a step; its process's id."""
    run.wait_for_step(step)
    while (executor := engine.registry.get(run.name).executor) is None:
        run.wait(lambda _: engine.registry.get(run.name).executor is not None)
    assert isinstance(executor, RemoteExecutor)
    os.kill(executor.process.pid, number)
    return executor.process.pid


def events(engine: Engine, run: DrivenRun) -> list[str]:
    return [event.kind for event in engine.events.newest(run.name)]


def test_the_result_is_that_of_the_plain_loop(engine: Engine) -> None:
    run = DrivenRun(engine)
    run.train(SHARDS, SEGMENT)
    assert run.outcome == train_plainly(CONFIG, [Environment(SAMPLES, 4, epochs=EPOCHS)])


def test_killed_again_and_again_each_step_is_there_once(engine: Engine) -> None:
    run = DrivenRun(engine)
    run.plan_whole(SHARDS, SEGMENT)
    run.advance(SEGMENT.steps)
    killed = set()
    for step in range(10, SEGMENT.steps, 24):
        killed.add(kill_when_it_computes(engine, run, step, signal.SIGKILL))
    run.wait_for_step(SEGMENT.steps)
    assert len(killed) == 10
    assert run.outcome == train_plainly(CONFIG, [Environment(SAMPLES, 4, epochs=EPOCHS)])
    assert "executor_died" in events(engine, run)
    assert "replay_differs" not in events(engine, run)


def test_a_step_that_hangs_is_ended_after_its_time(tmp_path: Path) -> None:
    options = EngineOptions(device="cpu", threads=1, step_timeout=10.0)
    engine = Engine(tmp_path / "data", options)
    engine.start()
    run = DrivenRun(engine)
    run.plan_whole(SHARDS, SEGMENT)
    run.advance(SEGMENT.steps)
    stopped = kill_when_it_computes(engine, run, 5, signal.SIGSTOP)
    run.wait_for_step(SEGMENT.steps)
    assert executor_of(engine, run).process.pid != stopped
    assert run.outcome == train_plainly(CONFIG, [Environment(SAMPLES, 4, epochs=EPOCHS)])
    assert engine.stop(60)
    engine.close()


def test_a_removed_run_frees_its_process(engine: Engine) -> None:
    run = DrivenRun(engine)
    run.plan_whole(SHARDS, SEGMENT)
    run.advance(SEGMENT.steps)
    run.wait_for_step(3)
    engine.runs.remove(run.name, run.id)
    other = DrivenRun(engine, "another")
    other.train(SHARDS, SEGMENT)
    assert other.outcome == train_plainly(CONFIG, [Environment(SAMPLES, 4, epochs=EPOCHS)])


def test_requests_between_steps_see_a_step_that_is_whole(engine: Engine) -> None:
    run = DrivenRun(engine)
    run.plan_whole(SHARDS, SEGMENT)
    run.advance(SEGMENT.steps)
    seen = [engine.inference.weights(run.name)[0] for _ in range(20)]
    assert seen == sorted(seen)
    run.wait_for_step(SEGMENT.steps)
    assert run.outcome == train_plainly(CONFIG, [Environment(SAMPLES, 4, epochs=EPOCHS)])


@pytest.fixture(scope="module", params=["forked", "started"])
def device(request: pytest.FixtureRequest) -> Iterator[ProcessDevice]:
    """A device whose processes are forked, and one whose processes each load torch themselves."""
    launcher = Launcher(forks=request.param == "forked")
    device = ProcessDevice(DeviceOptions(device="cpu", threads=1), launcher)
    yield device
    device.close()


class TestADevice:
    def test_each_executor_is_a_process_of_its_own_and_ends_it(self, device: ProcessDevice) -> None:
        pids = set()
        for _ in range(3):
            executor = device.make_executor(small_config())
            pids.add(executor.process.pid)
            executor.close()
            wait_until_gone(executor.process.pid)
        assert len(pids) == 3

    def test_its_state_goes_there_and_back(self, device: ProcessDevice) -> None:
        first, second = (device.make_executor(small_config()) for _ in range(2))
        schema = small_config().sample_schema.tensors.items()
        batch = {name: np.ones((4, *spec.shape), spec.numpy_type) for name, spec in schema}
        first.step(batch, 1, micro_batch_size=4)
        second.restore(first.state())
        assert first.process.pid != second.process.pid
        for number in (2, 3):  # one is begun while the other is computed
            first.begin_step(batch, number, micro_batch_size=4)
        outcomes = [first.end_step(), first.end_step()]
        again = [second.step(batch, number, micro_batch_size=2) for number in (2, 3)]
        assert [o.loss for o in outcomes] == pytest.approx([o.loss for o in again])
        states = first.state(), second.state()
        assert states[0].keys() == states[1].keys()
        assert all(a.shape == states[1][name].shape for name, a in states[0].items())
        first.close()
        second.close()

    def test_its_environment_has_no_token_and_its_folder_is_its_own(
        self, device: ProcessDevice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMEGA21_TOKEN", "secret-of-the-server")
        first, second = (device.make_executor(small_config()) for _ in range(2))
        for executor in (first, second):
            folder = Path("/proc", str(executor.process.pid))
            assert b"secret-of-the-server" not in (folder / "environ").read_bytes()
            assert (folder / "cwd").resolve() != Path.cwd()
            executor.close()

    def test_one_that_is_gone_is_named_with_its_signal(self, device: ProcessDevice) -> None:
        executor = device.make_executor(small_config())
        os.kill(executor.process.pid, signal.SIGKILL)
        with pytest.raises(ExecutorDied, match="SIGKILL"):
            executor.weights()
        executor.close()

    def test_what_it_started_ends_with_it(self, device: ProcessDevice) -> None:
        executor = device.make_executor(small_config())
        pid = executor.process.pid
        assert os.getpgid(pid) == os.getsid(pid) == pid != os.getpgid(os.getpid())
        executor.close()


def test_the_fork_server_s_end_is_the_end_of_all_and_another_is_started() -> None:
    device = ProcessDevice(DeviceOptions(device="cpu", threads=1))
    first, second = (device.make_executor(small_config()) for _ in range(2))
    (parent,) = {parent_of(executor.process.pid) for executor in (first, second)}
    assert parent != os.getpid()
    os.kill(parent, signal.SIGKILL)
    for executor in (first, second):
        with pytest.raises(ExecutorDied, match="SIGKILL"):
            use_until_it_ends(executor)
        executor.close()
    third = device.make_executor(small_config())
    assert third.weights()
    assert parent_of(third.process.pid) not in {parent, os.getpid()}
    third.close()
    device.close()


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while Path("/proc", str(pid)).exists():
        assert time.monotonic() < deadline
        os.sched_yield()


def use_until_it_ends(executor: RemoteExecutor) -> None:
    while True:
        executor.weights()


def parent_of(pid: int) -> int:
    return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])


def test_numbers_of_any_shape_travel_as_they_are() -> None:
    reading, writing = os.pipe()
    channel = Channel(os.fdopen(reading, "rb"), os.fdopen(writing, "wb"))
    arrays = {
        "scalar": np.array(3.5),
        "none": np.zeros((0, 4), np.int8),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "flags": np.array([True, False]),
    }
    channel.send({"loss": float("nan"), "text": "ñ"}, arrays)
    head, found = channel.receive()
    assert (str(head["loss"]), head["text"]) == ("nan", "ñ")
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape
    channel.close()


PARENT = """
import sys, time
from omega21.executors.options import DeviceOptions
from omega21.executors.devices import ProcessDevice
from omega21.executors.launcher import Launcher
from omega21.models.registry import small_config
device = ProcessDevice(DeviceOptions(device="cpu", threads=1))
print(device.make_executor(small_config()).process.pid, "torch" in sys.modules, flush=True)
time.sleep(600)
"""


def test_it_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, has_torch = parent.stdout.readline().split()
        parent.kill()
    assert has_torch == "False"
    wait_until_gone(int(pid))


def test_a_request_gets_the_step_that_it_was_made_at(tmp_path: Path) -> None:
    """Its executor has ended, and the newest checkpoint is older: the run catches up first."""
    seldom = EngineOptions(
        device="cpu", threads=1, checkpoint_steps=10_000, checkpoint_seconds=10_000.0
    )
    engine = Engine(tmp_path / "data", seldom)
    engine.start()
    run = DrivenRun(engine)
    run.plan_whole(SHARDS, SEGMENT)
    run.advance(30)
    run.wait_for_step(30)
    known = engine.inference.weights(run.name)
    for _ in range(2):
        kill_when_it_computes(engine, run, 30, signal.SIGKILL)
        found = engine.inference.weights(run.name)
        assert (found[0], found[2]) == (30, known[2])
    assert engine.stop(60)
    engine.close()


def test_folders_that_a_killed_server_left_are_removed_by_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (left,) = tmp_path.glob("omega21-executors-*")
        parent.kill()
    wait_until_gone(parent.pid)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as again:
        assert again.stdout is not None
        again.stdout.readline()
        (own,) = tmp_path.glob("omega21-executors-*")
        again.kill()
    assert own != left


def test_what_a_ledger_has_of_a_death_is_durable(engine: Engine, tmp_path: Path) -> None:
    run = DrivenRun(engine)
    run.plan_whole(SHARDS, SEGMENT)
    run.advance(SEGMENT.steps)
    kill_when_it_computes(engine, run, 5, signal.SIGKILL)
    run.wait_for_step(SEGMENT.steps)
    with sqlite3.connect(tmp_path / "data" / "ledger.sqlite") as db:
        rows = db.execute("SELECT detail FROM events WHERE kind = 'executor_died'").fetchall()
    assert ["SIGKILL" in detail for (detail,) in rows] == [True]
