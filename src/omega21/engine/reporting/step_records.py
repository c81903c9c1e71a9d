"""Step records in the form that clients read."""

from dataclasses import dataclass
from datetime import UTC, datetime

from omega21.engine.registry import Registry
from omega21.engine.run import MOST_WAITING_LISTED
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.storage.steps import StoredStep
from omega21.protocol.steps import StepRecord, StepsReply, float32_as_json


def iso_time(seconds: float) -> str:
    """Format a time, in seconds since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class StepRecords:
    """Reads the step records of runs. Thread-safe."""

    registry: Registry
    folder: DataFolder

    def page(self, name: str, *, after: int, limit: int, vectors: bool) -> StepsReply:
        """Return the existing records after step `after`. Raises UnknownRun.

        Records beyond the run's position, which a crash left and a replay will confirm, are not
        returned.
        """
        with self.registry.locked():
            run = self.registry.get(name)
            summary, until = run.summary(), run.step
            # Read before the ledger: records that are written in between are in the ledger.
            pending = [record for record in run.pending if after < record.step <= until]
            missing = len(run.missing_shards(MOST_WAITING_LISTED))
        stored = self.folder.ledger.steps.page(run.key, after=after, until=until, limit=limit)
        # Pending records are newer than stored ones of the same step: a replay that differed.
        merged = {record.step: record for record in (*stored, *pending)}
        return StepsReply(
            **summary.model_dump(),
            steps=[to_message(merged[step], vectors=vectors) for step in sorted(merged)[:limit]],
            waiting_for=missing,
        )


def to_message(record: StoredStep, *, vectors: bool) -> StepRecord:
    """Convert a record for the wire, with its vectors if they are asked for."""
    return StepRecord(
        step=record.step,
        loss=record.loss,
        samples=record.samples,
        digest=record.digest,
        ended_at=round(record.ended_at, 3),
        seconds=round(record.seconds, 6),
        non_finite=record.non_finite,
        skipped=record.skipped,
        micro_batch_size=record.micro_batch_size,
        metrics=record.metrics,
        vectors=vector_lists(record) if vectors else None,
    )


def vector_lists(record: StoredStep) -> dict[str, list[float]]:
    """Return the vectors of a record as shortest decimals, by name."""
    return {
        name: [float32_as_json(value) for value in values]
        for name, values in record.vectors.items()
    }
