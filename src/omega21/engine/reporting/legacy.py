"""What the replies of the earlier system say of steps: figures of one kind of task, else zeros."""

from omega21.engine.reporting.step_records import iso_time, vector_lists
from omega21.engine.run import Run
from omega21.engine.storage.steps import StepTotals, StoredStep
from omega21.protocol.legacy import LayerActivations, LayerOutputs, Trained


def inline_reply(run: Run, record: StoredStep) -> Trained:
    """Return the reply to an inline batch from the record of its last epoch.

    A step that the scaler skipped has no values, and a task of another kind not these; zeros and
    empty lists, as clients expect numbers.
    """
    vectors = vector_lists(record)
    dendrites, coherence = vectors.get("dendrites", []), vectors.get("coherence", [])
    probability = _metric(record, "anomaly_prob")
    return Trained(
        loss=record.loss or 0.0,
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
            capa2_activations=_metric(record, "capa2_activations"),
            capa3_activations=_metric(record, "capa3_activations"),
            capa4_activations=_metric(record, "capa4_activations"),
        ),
        timestamp=iso_time(record.ended_at),
        run=run.name,
        digest=record.digest,
    )


def mean_probability(totals: StepTotals) -> float:
    """Return the mean anomaly probability of all samples trained."""
    return totals.metrics.get("anomaly_prob") or 0.0


def count_anomalies(totals: StepTotals) -> int:
    """Count the samples with an anomaly probability over 0.5, of all samples trained."""
    return round((totals.metrics.get("anomalies") or 0.0) * totals.samples)


def _metric(record: StoredStep, name: str) -> float:
    return record.metrics.get(name) or 0.0
