"""Step records in the form that clients read."""

from dataclasses import dataclass
from datetime import UTC, datetime

from omega21.engine.registry import Registry
from omega21.engine.run import LAYER_NAMES, MOST_WAITING_LISTED, Run
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.storage.steps import StoredStep
from omega21.protocol.legacy import LayerActivations, LayerOutputs, Trained
from omega21.protocol.runs import RunConfig
from omega21.protocol.steps import StepRecord, StepsReply, float32_as_json


def iso_time(seconds: float) -> str:
    """Format a time, in seconds since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def split_vectors(
    record: StoredStep, dendrites: int
) -> tuple[list[float], list[float], list[float]]:
    """Return (dendrites, coherence, layers) of a record, means over the batch."""
    values = [float32_as_json(value) for value in record.vectors]
    layers = len(LAYER_NAMES)
    return values[:dendrites], values[dendrites:-layers], values[-layers:]


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
        dendrites = _dendrites(run.config) if vectors else None
        return StepsReply(
            **summary.model_dump(),
            steps=[to_message(merged[step], dendrites) for step in sorted(merged)[:limit]],
            waiting_for=missing,
        )


def to_message(record: StoredStep, dendrites: int | None) -> StepRecord:
    """Convert a record for the wire, with its vectors if the number of dendrites is given."""
    vectors: dict[str, list[float]] = {}
    if dendrites is not None:
        first, second, _ = split_vectors(record, dendrites)
        vectors = {"dendrites": first, "coherence": second}
    return StepRecord(
        step=record.step,
        loss=record.loss,
        anomaly_prob=record.anomaly_prob,
        samples=record.samples,
        digest=record.digest,
        ended_at=round(record.ended_at, 3),
        seconds=round(record.seconds, 6),
        non_finite=record.non_finite,
        skipped=record.skipped,
        micro_batch_size=record.micro_batch_size,
        **vectors,
    )


def inline_reply(run: Run, record: StoredStep) -> Trained:
    """Return the reply to an inline batch from the record of its last epoch."""
    dendrites, coherence, layers = split_vectors(record, _dendrites(run.config))
    # A step that the scaler skipped has no values; zeros, as clients expect.
    loss, probability = record.loss or 0.0, record.anomaly_prob or 0.0
    return Trained(
        loss=loss,
        anomaly_prob=probability,
        dendrites=dendrites,
        coherence=coherence,
        batch_size=record.samples,
        step=record.step,
        durable_step=run.durable_step,
        outputs=LayerOutputs(
            anomaly_prob=probability,
            dendrite_adjustments=dendrites,
            coherence_state=coherence,
        ),
        capa_info=LayerActivations(
            capa2_activations=layers[0],
            capa3_activations=layers[1],
            capa4_activations=layers[2],
        ),
        timestamp=iso_time(record.ended_at),
        run=run.name,
        digest=record.digest,
    )


def _dendrites(config: RunConfig) -> int:
    return int(str(config.task.config["dendrites"]))
