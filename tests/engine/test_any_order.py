"""Whatever a client sends, in any order, and however often the engine is killed: the same bits.

Hypothesis drives an engine in a process of its own: uploads, segments whose lists grow, targets,
pauses, duplicates, contradictions, inline batches with keys, kills, stops, damaged checkpoints.
In the end every result and the weights are those of the plain loop, each step once.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from omega21.engine.options import EngineOptions
from omega21.protocol.errors import KeyReused, OtherRun, PlanConflict
from omega21.protocol.plan import Segment
from omega21.protocol.runs import RunSummary
from tests.engine import processes
from tests.engine.engines import (
    CONFIG,
    Outcome,
    Samples,
    Shard,
    cut,
    make_samples,
    make_segment,
)
from tests.engine.processes import EngineProcess
from tests.engine.reference import Environment, train_plainly

RUN, RUN_ID = "a-run", "a" * 32
NEIGHBOUR, NEIGHBOUR_ID = "neighbour", "b" * 32
NEIGHBOURS_PLAN = [Environment(make_samples(24, seed=99), 2, epochs=2)]
MOST_SPOILED = 3  # of two epochs each: fewer than ten refused steps in a row

WHICH = st.integers(0, 100)


@dataclass
class Planned:
    """A segment as the client knows it: what it will be when its list is whole."""

    whole: Segment
    environment: Environment
    shards: list[Shard]
    listed: int = 0

    @property
    def so_far(self) -> Segment:
        return self.first(self.listed)

    def first(self, listed: int) -> Segment:
        return self.whole.model_copy(update={"shards": self.whole.shards[:listed]})


@dataclass
class Inline:
    """An inline batch that was sent, and its reply."""

    samples: Samples
    epochs: int
    reply: Any


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.data_dir = Path(self.folder.name)
        self.plan: list[Planned] = []
        self.inline: dict[str, Inline] = {}
        self.uploaded: set[str] = set()
        self.target = 0
        self.paused = False
        self.revision = 0
        self.spoiled = 0

    @initialize(
        seconds=st.sampled_from([0.0, 0.02, 30.0]),
        steps=st.sampled_from([1, 4, 500]),
        executor_cache=st.integers(1, 2),
    )
    def begin(self, seconds: float, steps: int, executor_cache: int) -> None:
        self.engine = EngineProcess(
            self.data_dir,
            EngineOptions(
                device="cpu",
                threads=1,
                checkpoint_seconds=seconds,
                checkpoint_steps=steps,
                resident_runs=executor_cache,
            ),
        )
        self.call("runs.create", RUN, RUN_ID, CONFIG)
        self.call("runs.create", NEIGHBOUR, NEIGHBOUR_ID, CONFIG)
        shards = cut(NEIGHBOURS_PLAN[0].samples, 24)
        self.call("shards.put", shards[0].sha256, shards[0].body, compressed=True)
        segment = make_segment(shards, batch_size=2, epochs=2)
        self.call("plans.put_segment", NEIGHBOUR, 0, run_id=NEIGHBOUR_ID, segment=segment)

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        return self.engine.call(method, *arguments, **named)

    def summary(self) -> RunSummary:
        summary: RunSummary = self.call("runs.summary", RUN)
        return summary

    # --- what the client knows ---

    @property
    def plan_steps(self) -> int:
        return sum(planned.whole.steps for planned in self.plan)

    @property
    def reachable(self) -> int:
        """The last step that can be trained with what was sent."""
        steps = 0
        for planned in self.plan:
            present = 0
            for ref in planned.so_far.shards:
                if ref.sha256 not in self.uploaded:
                    break
                present += ref.samples
            if present < planned.whole.samples:
                return min(self.target, steps + present // planned.whole.batch_size)
            steps += planned.whole.steps
        return min(self.target, steps)

    @invariant()
    def what_was_promised_holds(self) -> None:
        if not hasattr(self, "engine"):
            return
        summary = self.summary()
        assert summary.plan_steps == self.plan_steps
        assert summary.target == self.target
        assert (summary.paused, summary.revision) == (self.paused, self.revision)
        assert summary.durable_step <= summary.step <= self.reachable
        assert summary.reason is None

    # --- the plan ---

    @rule(
        count=st.integers(1, 9),
        size=st.integers(1, 9),
        batch_size=st.integers(1, 4),
        epochs=st.integers(1, 2),
        listed=st.integers(0, 3),
        spoil=st.booleans(),
    )
    def add_segment(
        self, count: int, size: int, batch_size: int, epochs: int, listed: int, spoil: bool
    ) -> None:
        number = len(self.plan)
        samples = make_samples(count, seed=number)
        if spoil and self.spoiled < MOST_SPOILED:
            samples.x[count // 2, 7] = np.nan
            self.spoiled += 1
        shards = cut(samples, size)
        whole = make_segment(shards, batch_size=batch_size, epochs=epochs, order_seed=number)
        environment = Environment(samples, batch_size, epochs, number)
        self.plan.append(Planned(whole, environment, shards, min(listed, len(shards))))
        self.put(number, self.plan[-1].so_far)

    def put(self, number: int, segment: Segment) -> None:
        stored = self.call("plans.put_segment", RUN, number, run_id=RUN_ID, segment=segment)
        listed = self.plan[number].so_far.shards
        missing = {ref.sha256 for ref in listed} - self.uploaded
        assert set(stored.missing) == missing

    @precondition(lambda self: self.plan)
    @rule(which=WHICH, more=st.integers(0, 4))
    def extend_a_list(self, which: int, more: int) -> None:
        number = which % len(self.plan)
        planned = self.plan[number]
        planned.listed = min(len(planned.shards), planned.listed + more)
        self.put(number, planned.so_far)

    @precondition(lambda self: self.plan)
    @rule(which=WHICH, listed=st.integers(0, 4))
    def send_an_older_list_again(self, which: int, listed: int) -> None:
        number = which % len(self.plan)
        planned = self.plan[number]
        self.put(number, planned.first(min(listed, planned.listed)))

    @precondition(lambda self: self.plan)
    @rule(which=WHICH)
    def contradict_the_plan(self, which: int) -> None:
        number = which % len(self.plan)
        segment = self.plan[number].so_far
        other = segment.model_copy(update={"order_seed": segment.order_seed + 1})
        with pytest.raises(PlanConflict):
            self.call("plans.put_segment", RUN, number, run_id=RUN_ID, segment=other)
        with pytest.raises(PlanConflict):
            self.call("plans.put_segment", RUN, len(self.plan) + 1, run_id=RUN_ID, segment=segment)
        with pytest.raises(OtherRun):
            self.call("plans.put_segment", RUN, number, run_id="c" * 32, segment=segment)
        with pytest.raises(OtherRun):
            self.call("plans.advance", RUN, "c" * 32, 10**6)

    @precondition(lambda self: self.plan)
    @rule(which=WHICH, shard=WHICH, plain=st.booleans())
    def upload(self, which: int, shard: int, plain: bool) -> None:
        planned = self.plan[which % len(self.plan)]
        sent = planned.shards[shard % len(planned.shards)]
        body = sent.plain if plain else sent.body
        stored = self.call("shards.put", sent.sha256, body, compressed=not plain)
        assert stored.stored == (sent.sha256 not in self.uploaded)
        self.uploaded.add(sent.sha256)

    @precondition(lambda self: self.plan)
    @rule(which=WHICH)
    def upload_a_whole_segment(self, which: int) -> None:
        planned = self.plan[which % len(self.plan)]
        for shard in planned.shards:
            self.call("shards.put", shard.sha256, shard.body, compressed=True)
            self.uploaded.add(shard.sha256)

    # --- the target ---

    @rule(to=st.integers(0, 60))
    def advance(self, to: int) -> None:
        self.target = max(self.target, min(to, self.plan_steps))
        assert self.call("plans.advance", RUN, RUN_ID, to).target == self.target

    @rule(revision=st.integers(0, 12), paused=st.booleans())
    def control(self, revision: int, paused: bool) -> None:
        if revision > self.revision:
            self.revision, self.paused = revision, paused
        self.call("plans.control", RUN, RUN_ID, revision=revision, paused=paused)

    @precondition(lambda self: not self.paused)
    @rule()
    def wait_for_all_that_can_be_trained(self) -> None:
        self.engine.call(processes.wait_for_step, RUN, self.reachable)
        assert self.summary().step == self.reachable

    @rule(to=st.integers(1, 24))
    def train_the_neighbour(self, to: int) -> None:
        self.call("plans.advance", NEIGHBOUR, NEIGHBOUR_ID, to)

    @rule()
    def ask_for_the_weights(self) -> None:
        self.call("runs.state", RUN)

    # --- inline batches ---

    @precondition(lambda self: not self.paused and self.reachable == self.plan_steps)
    @rule(count=st.integers(1, 5), epochs=st.integers(1, 3), kill=st.booleans(), wait=st.booleans())
    def train_inline(self, count: int, epochs: int, kill: bool, wait: bool) -> None:
        number = len(self.plan)
        samples = make_samples(count, seed=number)
        key = f"key-{number}"
        if kill:
            if wait:
                self.engine.call(processes.wait_for_plan, RUN)
            self.engine.send(
                processes.train_inline_until_answered, RUN, *samples, epochs=epochs, key=key
            )
            self.engine.kill()
            self.engine.start()
        reply = self.send_inline(key, samples, epochs)
        shards = cut(samples, count)
        whole = self.call("plans.segment", RUN, number)
        assert whole.shards == (shards[0].ref,)
        environment = Environment(samples, count, epochs)
        self.plan.append(Planned(whole, environment, shards, listed=1))
        self.inline[key] = Inline(samples, epochs, reply)
        self.uploaded.add(shards[0].sha256)
        self.target = self.plan_steps
        assert reply.step == self.plan_steps

    def send_inline(self, key: str, samples: Samples, epochs: int) -> Any:
        send = processes.train_inline_until_answered
        return self.engine.call(send, RUN, *samples, epochs=epochs, key=key)

    @precondition(lambda self: self.inline and not self.paused)
    @rule(which=WHICH)
    def send_an_inline_batch_again(self, which: int) -> None:
        key = sorted(self.inline)[which % len(self.inline)]
        sent = self.inline[key]
        reply = self.send_inline(key, sent.samples, sent.epochs)
        assert reply.model_dump(exclude={"durable_step"}) == sent.reply.model_dump(
            exclude={"durable_step"}
        )
        with pytest.raises(KeyReused):
            self.send_inline(key, sent.samples, sent.epochs + 1)

    # --- crashes ---

    @rule()
    def kill(self) -> None:
        self.engine.kill()
        self.engine.start()

    @rule(to=st.integers(1, 60))
    def advance_and_kill_before_the_reply(self, to: int) -> None:
        self.engine.send("plans.advance", RUN, RUN_ID, to)
        self.engine.kill()
        self.engine.start()
        self.advance(to)

    @rule()
    def stop(self) -> None:
        self.engine.stop()
        self.engine.start()

    @rule(kept=st.sampled_from([0, 10, 1000, -1]))
    def kill_and_damage_the_newest_checkpoint(self, kept: int) -> None:
        self.engine.kill()
        for path in sorted(self.data_dir.glob(f"checkpoints/{RUN_ID}/*.safetensors"))[-1:]:
            content = path.read_bytes()
            path.write_bytes(content[:kept] + (b"?" if kept < 0 else b""))
        self.engine.start()

    # --- the end ---

    def teardown(self) -> None:
        try:
            if hasattr(self, "engine"):
                self.finish()
                self.compare()
        finally:
            if hasattr(self, "engine"):
                self.engine.stop()
            self.folder.cleanup()

    def finish(self) -> None:
        self.control(13, paused=False)
        for number, planned in enumerate(self.plan):
            self.upload_a_whole_segment(number)
            self.extend_a_list(number, len(planned.shards))
        self.advance(self.plan_steps)
        self.engine.call(processes.wait_for_plan, RUN)
        self.call("plans.advance", NEIGHBOUR, NEIGHBOUR_ID, 24)
        self.engine.call(processes.wait_for_plan, NEIGHBOUR)

    def compare(self) -> None:
        plain = train_plainly(CONFIG, [planned.environment for planned in self.plan])
        assert self.outcome(RUN) == plain
        assert self.outcome(NEIGHBOUR) == train_plainly(CONFIG, NEIGHBOURS_PLAN)
        counted = [row for row in plain.rows if not row.non_finite]
        totals = self.call("statistics.status", RUN).estadisticas
        assert totals.total_batches == len(counted)
        assert totals.total_muestras == sum(row.samples for row in counted)

    def outcome(self, run: str) -> Outcome:
        rows = self.engine.call(processes.all_rows, run)
        return Outcome(rows, self.call("runs.state", run).weights_sha256)


def test_any_order_gives_the_plain_result() -> None:
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
