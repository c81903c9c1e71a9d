"""What survives a process: checkpoints, the fall back to the one before, and going elsewhere."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from omega21.engine.engine import Engine
from omega21.engine.options import EngineOptions
from omega21.protocol.checkpoints import RECORD_KEY, UPLOAD_PART_BYTES, RestoreCheckpoint
from omega21.protocol.errors import (
    BodyTooLarge,
    Conflict,
    InvalidCheckpoint,
    OmegaError,
    OtherRun,
    UnknownCheckpoint,
)
from omega21.protocol.runs import RunSummary
from omega21.protocol.shards import pack
from tests.engine.engines import (
    CONFIG,
    DrivenRun,
    Outcome,
    cut,
    make_samples,
    make_segment,
    running,
)
from tests.engine.reference import Environment, train_plainly

SAMPLES = make_samples(24)
SHARDS = cut(SAMPLES, 6)
SEGMENT = make_segment(SHARDS, batch_size=4, epochs=3)
STEPS = 18
EAGER = EngineOptions(device="cpu", threads=1, checkpoint_seconds=0.0)
"""Writes a checkpoint whenever the one before it is written."""


@pytest.fixture(scope="module")
def plain() -> Outcome:
    return train_plainly(CONFIG, [Environment(SAMPLES, 4, epochs=3)])


@pytest.fixture
def two_checkpoints(tmp_path: Path) -> DrivenRun:
    """A run at step 12 in a folder without an engine, with checkpoints of steps 6 and 12."""
    folder = tmp_path / "data"
    with running(folder) as engine:
        run = DrivenRun(engine)
        run.plan_whole(SHARDS, SEGMENT)
    for to in (6, 12):
        with running(folder) as engine:
            run = run.on(engine)
            run.advance(to)
            run.wait_for_step(to)
    assert [path.stem for path in seals(tmp_path, run)] == ["000000000006", "000000000012"]
    return run


def seals(tmp_path: Path, run: DrivenRun) -> list[Path]:
    return sorted((tmp_path / "data" / "checkpoints" / run.id).glob("*.json"))


def events(data_dir: Path) -> list[tuple[str, str]]:
    db = sqlite3.connect(data_dir / "ledger.sqlite")
    try:
        return db.execute("SELECT kind, detail FROM events ORDER BY at").fetchall()
    finally:
        db.close()


class TestRecovery:
    def test_begins_at_the_newest_checkpoint(
        self, tmp_path: Path, two_checkpoints: DrivenRun, plain: Outcome
    ) -> None:
        with running(tmp_path / "data") as engine:
            run = two_checkpoints.on(engine)
            assert (run.summary.step, run.summary.durable_step) == (12, 12)
            run.advance(STEPS)
            run.wait_for_step(STEPS)
            assert engine.worker.steps_done == STEPS - 12
            assert run.outcome == plain

    def test_a_durable_step_is_one_whose_state_is_on_disk(self, tmp_path: Path) -> None:
        with running(tmp_path / "data", EAGER) as engine:
            run = DrivenRun(engine)
            run.plan_whole(SHARDS, SEGMENT)
            run.advance(STEPS)
            summary = run.wait(lambda summary: summary.durable_step > 0)
            assert int(seals(tmp_path, run)[-1].stem) >= summary.durable_step
            run.wait(lambda summary: summary.durable_step == STEPS)
            assert seals(tmp_path, run)[-1].stem == f"{STEPS:012d}"
            assert len(seals(tmp_path, run)) == 2

    def test_a_run_at_rest_is_soon_durable(self, run: DrivenRun) -> None:
        shards = cut(SAMPLES, 24)
        run.train(shards, make_segment(shards, batch_size=24))
        assert run.wait(lambda summary: summary.durable_step == 1).step == 1

    def test_checkpoints_of_a_removed_run_go_with_it(self, tmp_path: Path) -> None:
        with running(tmp_path / "data", EAGER) as engine:
            run = DrivenRun(engine)
            run.train(SHARDS, SEGMENT)
            engine.runs.remove(run.name, run.id)
        assert not (tmp_path / "data" / "checkpoints" / run.id).exists()

    def test_those_of_a_run_that_was_removed_just_before_a_kill_go_at_the_start(
        self, tmp_path: Path
    ) -> None:
        stray = tmp_path / "data" / "checkpoints" / ("f" * 32)
        stray.mkdir(parents=True)
        (stray / "000000000001.json").write_text("{}")
        with running(tmp_path / "data"):
            assert not stray.exists()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-500] ^= 4
    path.write_bytes(content)


def nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense" * 1000)


def remove(path: Path) -> None:
    path.unlink()


def of_a_newer_format(path: Path) -> None:
    """A checkpoint that a newer version wrote, sealed as it would."""
    tensors, metadata = unpack_any(path)
    record = json.loads(metadata[RECORD_KEY]) | {"format": 99}
    reseal(path, pack(tensors, {RECORD_KEY: json.dumps(record)}))


def of_another_configuration(path: Path) -> None:
    tensors, metadata = unpack_any(path)
    record = json.loads(metadata[RECORD_KEY])
    record["config"]["seed"] += 1
    reseal(path, pack(tensors, {RECORD_KEY: json.dumps(record)}))


def of_another_model(path: Path) -> None:
    tensors, metadata = unpack_any(path)
    tensors.pop(next(name for name in tensors if name.startswith("weights.")))
    reseal(path, pack(tensors, metadata))


def unpack_any(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    with safe_open(path, "np") as file:
        names = list(file.keys())
        return {name: file.get_tensor(name) for name in names}, dict(file.metadata())


def reseal(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    seal_path = path.with_suffix(".json")
    seal = json.loads(seal_path.read_text())
    seal |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    seal_path.write_text(json.dumps(seal))


HARM = [
    truncate, flip_a_bit, nonsense, remove, of_a_newer_format, of_another_configuration,
    of_another_model,
]  # fmt: skip


class TestDamage:
    @pytest.mark.parametrize("harm", HARM)
    def test_of_the_newest_falls_back_to_the_one_before(
        self, harm: Callable[[Path], None], tmp_path: Path, two_checkpoints: DrivenRun,
        plain: Outcome,
    ) -> None:  # fmt: skip
        harm(seals(tmp_path, two_checkpoints)[-1].with_suffix(".safetensors"))
        with running(tmp_path / "data") as engine:
            run = two_checkpoints.on(engine)
            run.advance(STEPS)
            run.wait_for_step(STEPS)
            assert engine.worker.steps_done == STEPS - 6
            assert run.outcome == plain

    def test_of_all_of_them_begins_anew(
        self, tmp_path: Path, two_checkpoints: DrivenRun, plain: Outcome
    ) -> None:
        for seal in seals(tmp_path, two_checkpoints):
            flip_a_bit(seal.with_suffix(".safetensors"))
        with running(tmp_path / "data") as engine:
            run = two_checkpoints.on(engine)
            run.advance(STEPS)
            run.wait_for_step(STEPS)
            assert engine.worker.steps_done == STEPS
            assert run.outcome == plain
        damaged = [detail for kind, detail in events(tmp_path / "data") if "damaged" in kind]
        assert [detail.split(":")[0] for detail in damaged] == ["step 12", "step 6"]

    def test_of_a_seal_falls_back_too(
        self, tmp_path: Path, two_checkpoints: DrivenRun, plain: Outcome
    ) -> None:
        seals(tmp_path, two_checkpoints)[-1].write_text("{")
        with running(tmp_path / "data") as engine:
            run = two_checkpoints.on(engine)
            assert run.summary.durable_step == 6  # it is already on its way from there
            run.advance(STEPS)
            run.wait_for_step(STEPS)
            assert run.outcome == plain


def test_a_replay_that_differs_is_noticed_and_the_new_rows_hold(
    tmp_path: Path, two_checkpoints: DrivenRun, plain: Outcome
) -> None:
    """The stored rows are made another machine's; the replay from step 6 comes out otherwise."""
    data_dir = tmp_path / "data"
    seals(tmp_path, two_checkpoints)[-1].unlink()
    db = sqlite3.connect(data_dir / "ledger.sqlite")
    db.execute("UPDATE steps SET loss = 9, digest = 'other' WHERE step >= 9")
    db.commit()
    db.close()
    with running(data_dir) as engine:
        run = two_checkpoints.on(engine)
        run.wait_for_step(12)
        run.advance(STEPS)
        run.wait_for_step(STEPS)
        assert run.outcome == plain
    assert ("replay_differs", "step 9, was other") in events(data_dir)
    db = sqlite3.connect(data_dir / "ledger.sqlite")
    aside = db.execute("SELECT step, record ->> 'digest' FROM replaced_steps ORDER BY step")
    assert aside.fetchall() == [(step, "other") for step in range(9, 13)]
    db.close()


def is_durable(step: int, summary: RunSummary) -> bool:
    return summary.durable_step == step


def parts_of(content: bytes, size: int = 300_000) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def send(engine: Engine, run: DrivenRun, content: bytes, **changes: object) -> RestoreCheckpoint:
    """Upload a checkpoint's parts, and describe what they make."""
    parts = parts_of(content)
    names = [hashlib.sha256(part).hexdigest() for part in parts]
    for name, part in zip(names, parts, strict=True):
        assert engine.checkpoints.put_upload_part(name, part).bytes == len(part)
    fields = {
        "run_id": run.id,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parts": names,
    }
    return RestoreCheckpoint.model_validate(fields | changes)


class TestOnAnotherServer:
    @pytest.fixture
    def content(self, tmp_path: Path, two_checkpoints: DrivenRun) -> bytes:
        """What a client pulled: the checkpoint of step 12."""
        with running(tmp_path / "data") as engine:
            checkpoint = engine.checkpoints.newest(two_checkpoints.name)
            assert checkpoint.step == 12
            content = checkpoint.path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == checkpoint.sha256
        return content

    def test_a_run_goes_on_from_it_to_the_same_bits(
        self, tmp_path: Path, two_checkpoints: DrivenRun, content: bytes, plain: Outcome
    ) -> None:
        with running(tmp_path / "new") as engine:
            run = two_checkpoints.on(engine)
            run.plan_whole(SHARDS, SEGMENT)
            state = engine.checkpoints.restore(run.name, send(engine, run, content))
            assert (state.step, state.durable_step, state.digest) == (12, 12, plain.rows[11].digest)
            run.advance(STEPS)
            run.wait_for_step(STEPS)
            assert engine.worker.steps_done == STEPS - 12
            rows = engine.step_records.page(run.name, after=12, limit=99, vectors=False).steps
            assert [row.digest for row in rows] == [row.digest for row in plain.rows[12:]]
            assert run.weights_sha256 == plain.weights_sha256
            assert not list((tmp_path / "new" / "incoming").iterdir())
        with running(tmp_path / "new") as engine:
            assert run.on(engine).weights_sha256 == plain.weights_sha256

    def test_a_run_of_one_epoch_needs_only_the_samples_to_come(self, tmp_path: Path) -> None:
        segment = make_segment(SHARDS, batch_size=4)
        with running(tmp_path / "old") as engine:
            run = DrivenRun(engine)
            run.plan_whole(SHARDS, segment)
            run.advance(4)
            run.wait(lambda summary: summary.durable_step == 4)
            content = engine.checkpoints.newest(run.name).path.read_bytes()
        with running(tmp_path / "new") as engine:
            run = run.on(engine)
            run.put(0, segment)
            run.advance(6)
            engine.checkpoints.restore(run.name, send(engine, run, content))
            run.wait(lambda summary: summary.state == "waiting")
            needed = [shard.sha256 for shard in SHARDS[2:]]  # step 5 begins with sample 16
            assert engine.runs.state(run.name).waiting_for == needed
            run.upload(SHARDS[2:])
            run.wait_for_step(6)
            plain = train_plainly(CONFIG, [Environment(SAMPLES, 4)])
            assert run.weights_sha256 == plain.weights_sha256

    def test_what_does_not_fit_is_refused_and_changes_nothing(
        self, tmp_path: Path, two_checkpoints: DrivenRun, content: bytes
    ) -> None:
        with running(tmp_path / "new") as engine:
            run = two_checkpoints.on(engine)
            run.upload(SHARDS)
            other = DrivenRun(engine, "other")

            def refused(error: type[OmegaError], request: RestoreCheckpoint) -> None:
                before = (run.summary, other.summary)
                with pytest.raises(error):
                    engine.checkpoints.restore(run.name, request)
                assert (run.summary, other.summary) == before
                assert not list((tmp_path / "new" / "checkpoints").rglob("*.safetensors"))

            good = send(engine, run, content)
            refused(InvalidCheckpoint, good)  # there is no plan yet
            run.put(0, SEGMENT.model_copy(update={"order_seed": 1}))
            refused(InvalidCheckpoint, good)
            run.put(1, SEGMENT)
            refused(OtherRun, send(engine, run, content, run_id=other.id))
            refused(InvalidCheckpoint, send(engine, run, content[:-1], sha256=good.sha256))
            refused(InvalidCheckpoint, send(engine, run, content, bytes=5))
            refused(InvalidCheckpoint, send(engine, run, content, parts=good.parts[::-1]))
            refused(InvalidCheckpoint, send(engine, run, content, parts=["0" * 64]))
            refused(InvalidCheckpoint, send(engine, run, b"nonsense" * 100))

    def test_one_that_does_not_go_past_the_run_is_refused(
        self, tmp_path: Path, two_checkpoints: DrivenRun, content: bytes
    ) -> None:
        with running(tmp_path / "data") as engine:
            run = two_checkpoints.on(engine)
            request = send(engine, run, content)
            for to in (12, 13):
                run.advance(to)
                run.wait_for_step(to)
                with pytest.raises(Conflict, match=f"already at step {to}, beyond 12"):
                    engine.checkpoints.restore(run.name, request)
                assert run.summary.step == to

    def test_a_piece_is_what_its_name_says_and_small(self, engine: Engine) -> None:
        with pytest.raises(InvalidCheckpoint, match="not match its digest"):
            engine.checkpoints.put_upload_part("0" * 64, b"part")
        large = bytes(UPLOAD_PART_BYTES + 1)
        with pytest.raises(BodyTooLarge):
            engine.checkpoints.put_upload_part(hashlib.sha256(large).hexdigest(), large)

    def test_one_that_is_being_pulled_is_kept(
        self, tmp_path: Path, two_checkpoints: DrivenRun
    ) -> None:
        with running(tmp_path / "data", EAGER) as engine:
            run = two_checkpoints.on(engine)
            pulled = engine.checkpoints.newest(run.name, step=6)
            for to in range(13, STEPS + 1):
                run.advance(to)
                run.wait(partial(is_durable, to))
            kept = [path.stem for path in seals(tmp_path, run)]
            assert kept == ["000000000006", "000000000017", "000000000018"]
            assert hashlib.sha256(pulled.path.read_bytes()).hexdigest() == pulled.sha256
            with pytest.raises(UnknownCheckpoint, match="no checkpoint of step 12"):
                engine.checkpoints.newest(run.name, step=12)

    def test_a_run_without_any_says_so(self, engine: Engine, run: DrivenRun) -> None:
        with pytest.raises(UnknownCheckpoint, match="no checkpoint yet"):
            engine.checkpoints.newest(run.name)
