"""From a stored result to what a client reads."""

from datetime import UTC, datetime

from omega21.engine.run import LAYER_NAMES, Run
from omega21.engine.storage.ledger import Result
from omega21.protocol.legacy import LayerActivations, LayerOutputs, Trained
from omega21.protocol.steps import StepRecord, float32_as_json


def iso_time(seconds: float) -> str:
    """Write a time, in seconds since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def split_vectors(result: Result, dendrites: int) -> tuple[list[float], list[float], list[float]]:
    """Return (dendrites, coherence, layers) of a result, means over the batch."""
    values = [float32_as_json(value) for value in result.vectors]
    layers = len(LAYER_NAMES)
    return values[:dendrites], values[dendrites:-layers], values[-layers:]


def to_row(result: Result, *, dendrites: int | None) -> StepRecord:
    """Describe a result for the wire; with its vectors where the number of dendrites is given."""
    vectors: dict[str, list[float]] = {}
    if dendrites is not None:
        first, second, _ = split_vectors(result, dendrites)
        vectors = {"dendrites": first, "coherence": second}
    return StepRecord(
        step=result.step,
        loss=result.loss,
        anomaly_prob=result.anomaly_prob,
        samples=result.samples,
        digest=result.digest,
        ended_at=round(result.ended_at, 3),
        seconds=round(result.seconds, 6),
        refused=result.refused,
        skipped=result.skipped,
        micro_batch_size=result.micro_batch_size,
        **vectors,
    )


def inline_reply(run: Run, result: Result) -> Trained:
    """Answer an inline batch by the result of its last epoch."""
    dendrites, coherence, layers = split_vectors(result, run.config.model.dendrites)
    # A step that the scaler skipped has no result that counts; zeros, as clients expect.
    loss, probability = result.loss or 0.0, result.anomaly_prob or 0.0
    return Trained(
        loss=loss,
        anomaly_prob=probability,
        dendrites=dendrites,
        coherence=coherence,
        batch_size=result.samples,
        step=result.step,
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
        timestamp=iso_time(result.ended_at),
        run=run.name,
        digest=result.digest,
    )
