import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from omega21.protocol.checkpoints import trained_plan_sha256
from omega21.protocol.plan import (
    PlanIndex,
    Segment,
    ShardRef,
    Source,
    plan_sha256,
    plan_steps,
)

SOURCE = Source(kind="simple")


def ref(number: int, samples: int) -> ShardRef:
    return ShardRef(sha256=f"{number:064x}", samples=samples)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    sizes = draw(st.lists(st.integers(1, 9), max_size=4))
    return Segment(
        samples=sum(sizes) + draw(st.integers(0 if sizes else 1, 9)),
        batch_size=draw(st.integers(1, 12)),
        epochs=draw(st.integers(1, 3)),
        order_seed=draw(st.integers(0, 2)),
        source=SOURCE,
        shards=tuple(ref(number, size) for number, size in enumerate(sizes)),
    )


PLANS = st.lists(segments(), min_size=1, max_size=4)


class TestSteps:
    @given(segments())
    def test_count_every_batch_of_every_epoch(self, segment: Segment) -> None:
        starts = range(0, segment.samples, segment.batch_size)
        assert segment.steps_per_epoch == len(starts)
        assert segment.steps == len(starts) * segment.epochs

    @given(PLANS)
    def test_are_located_as_by_walking_the_plan(self, plan: list[Segment]) -> None:
        index = PlanIndex(plan)
        walked = [
            (number, step) for number, segment in enumerate(plan) for step in range(segment.steps)
        ]
        assert [index.locate(step) for step in range(1, index.steps + 1)] == walked
        assert index.steps == plan_steps(plan) == len(walked)

    def test_an_empty_plan_has_none(self) -> None:
        assert PlanIndex([]).steps == plan_steps([]) == 0

    def test_large_numbers_stay_exact(self) -> None:
        segment = Segment(samples=2**40, batch_size=1, epochs=1_000_000, source=SOURCE)
        index = PlanIndex([segment, segment])
        assert index.steps == 2 * 2**40 * 1_000_000
        assert index.locate(index.steps) == (1, 2**40 * 1_000_000 - 1)


def test_a_plan_without_micro_batches_has_the_digest_that_it_had_before() -> None:
    segment = Segment(samples=3, batch_size=2, source=SOURCE)
    parts = segment.model_copy(update={"micro_batch": 1})
    assert "micro_batch" not in segment.model_dump_json()
    assert Segment.parse_lenient(parts.model_dump_json()) == parts
    assert plan_sha256([segment]) != plan_sha256([parts])
    assert not parts.is_extension_of(segment)
    with pytest.raises(ValidationError):
        Segment(samples=3, batch_size=2, source=SOURCE, micro_batch=0)


class TestExtension:
    @given(segments(), st.integers(0, 4), st.integers(0, 4))
    def test_of_a_list_by_more_of_it(self, whole: Segment, some: int, more: int) -> None:
        first = whole.model_copy(update={"shards": whole.shards[:some]})
        second = whole.model_copy(update={"shards": whole.shards[: some + more]})
        assert second.is_extension_of(first)
        assert first.is_extension_of(second) == (first == second)

    @pytest.mark.parametrize(
        "change",
        [
            {"samples": 11}, {"batch_size": 3}, {"epochs": 2}, {"order_seed": 1},
            {"source": Source(kind="simple", seed=1)}, {"source": Source(kind="temporal")},
            {"source": Source(kind="simple", offset=1)},
            {"source": Source(kind="simple", anomaly_percent=1)},
        ],
        ids=repr,
    )  # fmt: skip
    def test_never_changes_a_number(self, change: dict[str, object]) -> None:
        segment = Segment(samples=10, batch_size=4, source=SOURCE, shards=(ref(1, 4),))
        assert segment.is_extension_of(segment.numbers())
        other = Segment.model_validate(segment.model_dump() | change)
        assert not other.is_extension_of(segment)
        assert not other.is_extension_of(segment.numbers())

    def test_never_changes_what_is_listed(self) -> None:
        stored = Segment(samples=10, batch_size=4, source=SOURCE, shards=(ref(1, 4), ref(2, 4)))
        for shards in [(ref(2, 4), ref(1, 4)), (ref(1, 4), ref(3, 4)), (ref(1, 3), ref(2, 4))]:
            assert not stored.model_copy(update={"shards": shards}).is_extension_of(stored)

    def test_a_list_holds_no_more_than_the_segment(self) -> None:
        Segment(samples=8, batch_size=4, source=SOURCE, shards=(ref(1, 4), ref(2, 4)))
        with pytest.raises(ValidationError, match="have 8 samples, the segment has 7"):
            Segment(samples=7, batch_size=4, source=SOURCE, shards=(ref(1, 4), ref(2, 4)))

    @given(segments())
    def test_a_list_is_whole_when_it_covers_every_sample(self, segment: Segment) -> None:
        listed = sum(shard.samples for shard in segment.shards)
        assert segment.listed_samples == listed
        assert segment.is_whole == (listed == segment.samples)


class TestDigest:
    @given(PLANS, PLANS)
    def test_tells_plans_apart(self, one: list[Segment], other: list[Segment]) -> None:
        assert (plan_sha256(one) == plan_sha256(other)) == (one == other)

    @given(PLANS)
    def test_survives_being_stored(self, plan: list[Segment]) -> None:
        stored = [Segment.parse_lenient(segment.model_dump_json()) for segment in plan]
        assert plan_sha256(stored) == plan_sha256(plan)

    @given(PLANS, segments())
    def test_of_what_is_trained_ignores_what_is_still_to_come(
        self, plan: list[Segment], later: Segment
    ) -> None:
        trained = plan_steps(plan)
        assert trained_plan_sha256([*plan, later], trained) == trained_plan_sha256(plan, trained)

    @given(PLANS, segments())
    def test_of_what_is_trained_ignores_how_far_the_list_under_way_has_grown(
        self, plan: list[Segment], last: Segment
    ) -> None:
        step = plan_steps(plan) + last.steps - 1
        if step > plan_steps(plan):
            short = trained_plan_sha256([*plan, last.numbers()], step)
            assert trained_plan_sha256([*plan, last], step) == short

    def test_of_what_is_trained_holds_every_shard_that_was_used_up(self) -> None:
        one = Segment(samples=4, batch_size=2, source=SOURCE, shards=(ref(1, 4),))
        other = one.model_copy(update={"shards": (ref(2, 4),)})
        assert trained_plan_sha256([one], 2) != trained_plan_sha256([other], 2)
        assert trained_plan_sha256([one], 1) == trained_plan_sha256([other], 1)
        assert trained_plan_sha256([one], 0) == trained_plan_sha256([], 0)
