"""Batches that do not fit in the device's memory: computed in parts, alike in every replay."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from omega21.engine.engine import Engine
from omega21.models.corteza import task as executor
from omega21.models.corteza.config import TINY, ModelConfig, run_config
from omega21.models.corteza.network import CortezaCognitivaV4, build_model
from omega21.protocol.errors import OutOfDeviceMemory
from tests.engine.engines import CONFIG, DrivenRun, cut, make_samples, make_segment, running
from tests.engine.reference import Environment, train_plainly

SAMPLES = make_samples(24)
SEGMENT = make_segment(cut(SAMPLES, 9), batch_size=8, epochs=2)


class Device:
    """A device on which so many samples fit: above it, the real model's forward pass runs out."""

    def __init__(self) -> None:
        self.room = 10**9
        self.full_from_the_start = False
        self.seen: list[int] = []
        self.before_each: Callable[[int], None] = lambda _: None

    def build_model(self, config: ModelConfig, *, seed: int) -> CortezaCognitivaV4:
        model = build_model(config, seed=seed)
        if seed == CONFIG.seed or self.full_from_the_start:  # not what only warms the engine up
            model.register_forward_pre_hook(self._forward)
        return model

    def _forward(self, _: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        samples = len(inputs[0])
        self.seen.append(samples)
        self.before_each(samples)
        if samples > self.room:
            raise torch.OutOfMemoryError(f"{samples} samples do not fit")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr(executor, "build_model", device.build_model)
    return device


def stored_part_sizes(data_dir: Path) -> list[tuple[int, int]]:
    with sqlite3.connect(data_dir / "ledger.sqlite") as db:
        found = db.execute(
            "SELECT from_step, micro_batch_size FROM micro_batch_sizes ORDER BY from_step"
        )
        return found.fetchall()


@pytest.mark.parametrize(("room", "part"), [(8, None), (7, 4), (4, 4), (3, 2), (1, 1)])
def test_it_is_halved_until_it_fits(
    device: Device, run: DrivenRun, room: int, part: int | None
) -> None:
    device.room = room
    run.train(cut(SAMPLES, 9), SEGMENT)
    assert {row.micro_batch_size for row in run.rows()} == {part}
    assert run.rows()[-1].samples == 8


def test_the_result_is_that_of_the_whole_batch_up_to_rounding(
    device: Device, engine: Engine
) -> None:
    """Without dropout, whose masks are drawn part by part."""
    config = run_config(TINY.model_copy(update={"dropout": 0.0}), seed=CONFIG.seed)
    run = DrivenRun(engine, "no-dropout", config)
    device.room = 3
    run.train(cut(SAMPLES, 9), SEGMENT)
    losses = [row.loss for row in run.rows()]
    plain = [row.loss for row in train_plainly(config, [Environment(SAMPLES, 8, epochs=2)]).rows]
    np.testing.assert_allclose(np.array(losses, float), np.array(plain, float), rtol=1e-4)


def test_the_size_is_on_disk_before_it_is_tried(
    device: Device, run: DrivenRun, tmp_path: Path
) -> None:
    device.room = 2
    tried: list[tuple[int, list[tuple[int, int]]]] = []
    run.plan_whole(cut(SAMPLES, 9), SEGMENT)
    device.before_each = lambda size: tried.append((size, stored_part_sizes(tmp_path / "data")))
    run.advance(1)
    run.wait_for_step(1)
    assert tried[:3] == [(8, []), (4, [(1, 4)]), (2, [(1, 2)])]


def test_a_replay_computes_in_the_same_parts(device: Device, tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        run = DrivenRun(engine)
        run.plan_whole(cut(SAMPLES, 9), SEGMENT)
        for to, room in ((2, 8), (4, 5), (6, 1)):
            device.room = room
            run.advance(to)
            run.wait_for_step(to)
        outcome = run.outcome
    assert [row.micro_batch_size for row in outcome.rows] == [None, None, 4, 4, 1, 1]
    for checkpoint in (tmp_path / "checkpoints").rglob("*.json"):
        checkpoint.unlink()
    device.room = 10**9
    device.seen.clear()
    with running(tmp_path) as engine:
        again = run.on(engine)
        again.wait_for_step(6)
        assert again.outcome == outcome
    assert device.seen == [8, 8, 4, 4, 4, 4, *[1] * 16]


def test_one_sample_that_does_not_fit_stops_a_planned_run(device: Device, run: DrivenRun) -> None:
    run.plan_whole(cut(SAMPLES, 9), SEGMENT)
    device.room = 0
    run.advance(6)
    summary = run.wait(lambda summary: summary.state == "failed")
    assert summary.step == 0
    assert summary.reason is not None
    assert "one sample does not fit" in summary.reason


def test_one_sample_that_does_not_fit_refuses_an_inline_batch(
    device: Device, engine: Engine, run: DrivenRun
) -> None:
    device.room = 0
    for _ in range(2):
        with pytest.raises(OutOfDeviceMemory, match="one sample does not fit"):
            engine.inline.train(run.name, *make_samples(4), epochs=2, key="k")
    assert run.summary.plan_steps == 0
    device.room = 10**9
    engine.inline.train(run.name, *make_samples(6, seed=1), epochs=1, key=None)
    assert run.outcome == train_plainly(CONFIG, [Environment(make_samples(6, seed=1), 6)])


def test_questions_are_answered_in_parts_too(
    device: Device, engine: Engine, run: DrivenRun
) -> None:
    shards = cut(SAMPLES, 24)
    run.upload(shards)
    whole = engine.inference.evaluate(run.name, [shards[0].sha256])
    device.room = 5
    parts = engine.inference.evaluate(run.name, [shards[0].sha256])
    np.testing.assert_allclose(parts.score_array(), whole.score_array(), rtol=1e-5)
    assert len(engine.inference.predict(run.name, [shards[0].sha256])[1]["anomaly_prob"]) == 24
    device.room = 0
    with pytest.raises(OutOfDeviceMemory):
        engine.inference.evaluate(run.name, [shards[0].sha256])
    assert run.summary.state == "idle"


def test_a_device_that_is_full_at_the_start_does_not_end_the_engine(
    device: Device, tmp_path: Path
) -> None:
    device.full_from_the_start, device.room = True, 0
    with running(tmp_path) as engine:
        run = DrivenRun(engine)
        with pytest.raises(OutOfDeviceMemory):
            engine.inference.diagnose(run.name)
        device.room = 10**9
        run.train(cut(SAMPLES, 9), SEGMENT)
