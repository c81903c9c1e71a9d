"""Plans and targets."""

from dataclasses import dataclass

from omega21.engine.batches import SegmentReader
from omega21.engine.registry import Registry
from omega21.engine.run import MOST_WAITING_LISTED, Run
from omega21.engine.samples import check_listed_on_disk
from omega21.engine.storage.data_folder import DataFolder
from omega21.language import _, ngettext
from omega21.protocol.errors import PlanConflict, StillRunning, UnknownSegment
from omega21.protocol.plan import Plan, Segment, SegmentStored, check_batch_bytes
from omega21.protocol.runs import RunSummary


@dataclass(frozen=True)
class Plans:
    """Extends plans and raises targets."""

    registry: Registry
    folder: DataFolder

    def put_segment(
        self, name: str, number: int, *, run_id: str, segment: Segment
    ) -> SegmentStored:
        """Add segment `number` to the plan, or extend its list of shards. Durable.

        Raises PlanConflict unless it equals the stored segment, is a prefix of it, or extends it;
        InvalidSamples for a listed shard that does not fit the schema, InvalidRequest for a batch
        that is too large.
        """
        with self.registry.locked():
            run = self.registry.get(name, run_id)
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
                        _("segment {number} of run {name!r} differs from the stored one").format(
                            number=number, name=name
                        )
                    )
                self._extend_plan(run, number, segment)
            missing = run.readers[number].missing(MOST_WAITING_LISTED)
            self.registry.changed(name)
            return SegmentStored(**run.summary().model_dump(), missing=missing)

    def _extend_plan(self, run: Run, number: int, segment: Segment) -> None:
        is_new = number == len(run.readers)
        check_batch_bytes(segment, run.config.sample_schema)
        known_shards = 0 if is_new else len(run.readers[number].segment.shards)
        for ref in segment.shards[known_shards:]:
            if ref.sha256 in self.folder.shards:
                shard = self.folder.shards.open(ref.sha256)
                check_listed_on_disk(shard, ref, run=run.name, segment=segment, config=run.config)
        self.folder.ledger.segments.put(run.key, number, segment=segment, known_shards=known_shards)
        if is_new:
            run.add_segment(
                SegmentReader(segment, self.folder.shards, schema=run.config.sample_schema)
            )
        else:
            run.readers[number].extend(segment)

    def get(self, name: str) -> Plan:
        """Return a run's plan. Raises UnknownRun."""
        with self.registry.locked():
            run = self.registry.get(name)
            return Plan(run=run.name, id=run.id, segments=tuple(run.segments))

    def segment(self, name: str, number: int) -> Segment:
        """Return one segment of a run's plan. Raises UnknownRun, UnknownSegment."""
        with self.registry.locked():
            run = self.registry.get(name)
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
        """Raise a run's target to `to`; never lowers it, nor beyond its plan. Durable."""
        with self.registry.locked():
            run = self.registry.get(name, run_id)
            target = min(to, run.index.steps)
            if target > run.target:
                self.folder.ledger.runs.set_target(run.key, target)
                run.target = target
                self.registry.changed(name)
            return run.summary()

    def control(self, name: str, run_id: str, *, revision: int, paused: bool) -> RunSummary:
        """Pause or resume a run; the highest revision wins. Durable."""
        with self.registry.locked():
            run = self.registry.get(name, run_id)
            if revision > run.revision:
                self.folder.ledger.runs.set_control(run.key, revision=revision, paused=paused)
                run.revision, run.paused = revision, paused
                self.registry.changed(name)
            return run.summary()
