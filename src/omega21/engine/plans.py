"""Plans, targets and shards: what is to be trained, and with what."""

from collections.abc import Sequence

from omega21.engine.batches import SegmentReader
from omega21.engine.registry import Registry
from omega21.engine.run import MOST_WAITING_LISTED, Run
from omega21.engine.samples import check_labels, check_shape
from omega21.engine.storage.ledger import Ledger
from omega21.engine.storage.shards import ShardStore
from omega21.language import _, ngettext
from omega21.protocol.errors import InvalidSamples, PlanConflict, StillRunning, UnknownSegment
from omega21.protocol.plan import Plan, Segment, SegmentStored, ShardRef
from omega21.protocol.runs import RunSummary
from omega21.protocol.shards import ShardStored, Tensors, decode_shard, shard_samples


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
                raise StillRunning(_("an inline batch is being trained"), retry_after=1)
            if number > len(run.readers):
                raise PlanConflict(
                    ngettext(
                        "segment {number} was sent, the plan has {count} segment",
                        "segment {number} was sent, the plan has {count} segments",
                        len(run.readers),
                    ).format(number=number, count=len(run.readers)),
                    hint=_("segments are added in order, without gaps"),
                )
            known = run.readers[number].segment if number < len(run.readers) else None
            if known is None or not known.is_extension_of(segment):
                if known is not None and not segment.is_extension_of(known):
                    raise PlanConflict(
                        _("segment {number} of run {name!r} is another one here").format(
                            number=number, name=name
                        )
                    )
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
        shard = self._shards.open(ref.sha256)
        tensors = {name: shard.read(name) for name in {"x", "y"} & set(shard.spans)}
        _check_listed(run, ref, tensors)

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
                raise UnknownSegment(
                    ngettext(
                        "run {name!r} has {count} segment",
                        "run {name!r} has {count} segments",
                        len(run.readers),
                    ).format(name=name, count=len(run.readers))
                )
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
            listings = [
                (run, ref)
                for run in self._runs.values()
                for segment in run.segments
                for ref in segment.shards
                if ref.sha256 == sha256
            ]
        for run, ref in listings:
            _check_listed(run, ref, tensors)
        stored = self._shards.put(sha256, tensors, pinned=self._registry.pinned_shards)
        with self._changed:
            for run, _ in listings:
                self._registry.wake(run.name)
        size = sum(array.nbytes for array in tensors.values())
        return ShardStored(sha256=sha256, samples=shard_samples(tensors), bytes=size, stored=stored)

    def has_shard(self, sha256: str) -> bool:
        """Whether a shard is here; asking counts as use."""
        return sha256 in self._shards

    def missing_shards(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that are not here; asking counts as use."""
        return [name for name in names if name not in self._shards]


def _check_listed(run: Run, ref: ShardRef, tensors: Tensors) -> None:
    """Check that a shard holds what a plan says of it. Raises InvalidSamples, PlanConflict."""
    if "x" not in tensors or "y" not in tensors:
        raise InvalidSamples(
            _("shard {sha256} is listed in a plan and lacks `x` or `y`").format(
                sha256=ref.sha256[:12]
            )
        )
    if len(tensors["x"]) != ref.samples:
        raise PlanConflict(
            _(
                "shard {sha256} holds {held} samples; the plan of run {name!r} lists it with "
                "{listed}"
            ).format(
                sha256=ref.sha256[:12], held=len(tensors["x"]), name=run.name, listed=ref.samples
            )
        )
    check_shape(tensors["x"], width=run.config.model.features)
    check_labels(tensors["y"], samples=ref.samples)
