"""Plans, targets and shards: what is to be trained, and with what."""

from collections.abc import Sequence

from omega21.protocol.errors import PlanConflict, StillRunning, UnknownSegment
from omega21.protocol.plan import Plan, Segment, SegmentStored, ShardRef
from omega21.protocol.runs import RunSummary
from omega21.protocol.shards import ShardStored, decode_shard, shard_samples
from omega21.training.batches import SegmentReader
from omega21.training.ledger import Ledger
from omega21.training.registry import Registry
from omega21.training.run import MOST_WAITING_LISTED, Run
from omega21.training.samples import check_shape
from omega21.training.shards import ShardStore


class Plans:
    """Extends plans, raises targets, and takes shards in."""

    def __init__(self, *, registry: Registry, ledger: Ledger, shards: ShardStore) -> None:
        self._registry = registry
        self._runs, self._changed = registry.runs, registry.changed
        self._ledger = ledger
        self._shards = shards

    def put_segment(
        self, name: str, number: int, *, run_id: str, segment: Segment
    ) -> SegmentStored:
        """Add segment `number` to the plan, or extend its list of shards. Durable.

        Raises PlanConflict for anything that is not the stored one, a prefix of it, or longer;
        InvalidSamples for a listed shard that does not fit the model.
        """
        with self._changed:
            run = self._registry.get(name, run_id)
            if number == len(run.readers) and run.inline:
                raise StillRunning("an inline batch is being trained", retry_after=1)
            if number > len(run.readers):
                raise PlanConflict(
                    f"segment {number} was sent, the plan has {len(run.readers)} segments",
                    hint="segments are added in order, without gaps",
                )
            known = run.readers[number].segment if number < len(run.readers) else None
            if known is None or not known.is_extension_of(segment):
                if known is not None and not segment.is_extension_of(known):
                    raise PlanConflict(f"segment {number} of run {name!r} is another one here")
                self._extend_plan(run, number, segment)
            missing = run.readers[number].missing(MOST_WAITING_LISTED)
            self._registry.wake(name)
            return SegmentStored(**run.summary().model_dump(), missing=missing)

    def _extend_plan(self, run: Run, number: int, segment: Segment) -> None:
        is_new = number == len(run.readers)
        known_shards = 0 if is_new else len(run.readers[number].segment.shards)
        for ref in segment.shards[known_shards:]:
            if ref.sha256 in self._shards:
                self._check_fits(run, ref)
        self._ledger.put_segment(run.key, number, segment=segment, known_shards=known_shards)
        if is_new:
            run.add_segment(SegmentReader(segment, self._shards))
        else:
            run.readers[number].extend(segment)

    def _check_fits(self, run: Run, ref: ShardRef) -> None:
        spans = self._shards.spans(ref.sha256)
        if set(spans) < {"x", "y"} or self._shards.samples(ref.sha256) != ref.samples:
            raise PlanConflict(
                f"shard {ref.sha256[:12]} holds {self._shards.samples(ref.sha256)} samples with "
                f"{', '.join(spans)}; the segment lists it with {ref.samples} of x and y"
            )
        x = self._shards.read(ref.sha256, "x", rows=range(1))
        y = self._shards.read(ref.sha256, "y", rows=range(1))
        check_shape(x, y, width=run.config.model.features)

    def plan(self, name: str) -> Plan:
        """Return a run's plan. Raises UnknownRun."""
        with self._changed:
            run = self._registry.get(name)
            return Plan(run=run.name, id=run.id, segments=tuple(run.segments))

    def segment(self, name: str, number: int) -> Segment:
        """Return one segment of a run's plan. Raises UnknownRun, UnknownSegment."""
        with self._changed:
            run = self._registry.get(name)
            if not 0 <= number < len(run.readers):
                raise UnknownSegment(f"run {name!r} has {len(run.readers)} segments")
            return run.readers[number].segment

    def advance(self, name: str, run_id: str, to: int) -> RunSummary:
        """Raise a run's target to `to`, never lower it, and not past its plan. Durable."""
        with self._changed:
            run = self._registry.get(name, run_id)
            target = min(to, run.index.steps)
            if target > run.target:
                self._ledger.set_target(run.key, target)
                run.target = target
                self._registry.wake(name)
            return run.summary()

    def control(self, name: str, run_id: str, *, generation: int, paused: bool) -> RunSummary:
        """Pause or resume a run; the highest generation wins. Durable."""
        with self._changed:
            run = self._registry.get(name, run_id)
            if generation > run.generation:
                self._ledger.set_control(run.key, generation=generation, paused=paused)
                run.generation, run.paused = generation, paused
                self._registry.wake(name)
            return run.summary()

    def put_shard(self, sha256: str, body: bytes, *, compressed: bool) -> ShardStored:
        """Store a shard; the same again changes nothing. Durable.

        Raises InvalidShard, BodyTooLarge, InvalidSamples when a plan that lists it cannot use it,
        StorageFull.
        """
        tensors = decode_shard(body, compressed=compressed)
        with self._changed:
            users = [run for run in self._runs.values() if self._lists(run, sha256)]
            pinned = set[str]().union(*(run.pinned_shards() for run in self._runs.values()))
        for run in users:
            check_shape(tensors.get("x"), tensors.get("y"), width=run.config.model.features)
        stored = self._shards.put(sha256, tensors, pinned=pinned)
        with self._changed:
            for run in users:
                self._registry.wake(run.name)
        size = sum(array.nbytes for array in tensors.values())
        return ShardStored(sha256=sha256, samples=shard_samples(tensors), bytes=size, stored=stored)

    def _lists(self, run: Run, sha256: str) -> bool:
        return any(ref.sha256 == sha256 for s in run.segments for ref in s.shards)

    def has_shard(self, sha256: str) -> bool:
        """Whether a shard is here; asking counts as use."""
        return sha256 in self._shards

    def missing_shards(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that are not here; asking counts as use."""
        return [name for name in names if name not in self._shards]
