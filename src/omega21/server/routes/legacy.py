"""The seven calls of the earlier system."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from omega21.engine.reporting.step_records import iso_time
from omega21.protocol.digests import documents_sha256
from omega21.protocol.errors import (
    BodyTooLarge,
    Diverged,
    InvalidSamples,
    InvalidShard,
    KeyReused,
    NonFinite,
    OutOfDeviceMemory,
    PlanUnfinished,
    RunPaused,
    StillRunning,
    StorageFull,
    UnknownRun,
    UnsupportedEncoding,
)
from omega21.protocol.legacy import (
    DeviceInfo,
    Diagnosis,
    FeedbackDendritas,
    FeedbackReceived,
    Health,
    Info,
    Metrics,
    OutputShapes,
    Status,
    Trained,
)
from omega21.protocol.names import DEFAULT_RUN
from omega21.protocol.shards import SHARD_MEDIA_TYPE
from omega21.server.http.bodies import (
    JSON_MEDIA_TYPE,
    MessageRoute,
    check_parts,
    is_compressed,
    media_type,
    read_body,
    read_tensors,
)
from omega21.server.http.errors import problems
from omega21.server.http.json_batches import (
    INLINE_JSON_LIMIT,
    INLINE_PARTS_LIMIT,
    InlineBatch,
    read_json_batch,
    read_tensor_batch,
)
from omega21.server.openapi import examples, legacy
from omega21.server.openapi.examples import reply, tensors
from omega21.server.services import IdempotencyKey, RunQuery, Services, ServicesHere

router = APIRouter(tags=["legacy"], route_class=MessageRoute)

_BATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON_MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/TrainLayer2"},
                "example": legacy.TRAIN_LAYER2,
            },
            **tensors("`x` [n, 1600] and `y` [n], in zstd or not"),
        },
    }
}


@router.post(
    "/train_layer2",
    openapi_extra=_BATCH_BODY,
    responses=reply(legacy.TRAINED)
    | problems(
        InvalidSamples, InvalidShard, NonFinite, KeyReused, BodyTooLarge, UnsupportedEncoding,
        UnknownRun, PlanUnfinished, StillRunning, RunPaused, Diverged, StorageFull,
        OutOfDeviceMemory,
    ),
)  # fmt: skip
async def train_layer2(
    request: Request,
    services: ServicesHere,
    *,
    run: RunQuery = DEFAULT_RUN,
    epochs: Annotated[
        int | None, Query(ge=1, le=1000, description="for a body of tensors; JSON holds its own")
    ] = None,
    key: IdempotencyKey = None,
) -> Trained:
    """Train one inline batch at the end of the plan, and return its result.

    As JSON (at most 32 MiB, about 950 samples) or as tensors. Loss and step are the last epoch's.
    """
    services.inline.check_room()
    batch = await _read_batch(request, services, epochs)
    return await services.inline.run(
        services.engine.inline.train, run, batch.x, batch.y, epochs=batch.epochs, key=key
    )


async def _read_batch(request: Request, services: Services, epochs: int | None) -> InlineBatch:
    if media_type(request, JSON_MEDIA_TYPE, SHARD_MEDIA_TYPE) == SHARD_MEDIA_TYPE:
        body, compressed = await read_tensors(request)
        return await services.uploads.run(
            read_tensor_batch, body, compressed=compressed, epochs=epochs or 1
        )
    is_compressed(request, allowed=False)
    body = await read_body(request, limit=INLINE_JSON_LIMIT)
    check_parts(body, b"[{", limit=INLINE_PARTS_LIMIT)
    return await services.uploads.run(read_json_batch, body)


@router.post(
    "/feedback_dendritas",
    responses=reply(legacy.FEEDBACK_RECEIVED)
    | problems(UnknownRun, KeyReused, BodyTooLarge, UnsupportedEncoding, StorageFull),
)
def feedback_dendritas(
    services: ServicesHere,
    *,
    feedback: Annotated[FeedbackDendritas, examples.body(legacy.FEEDBACK)],
    run: RunQuery = DEFAULT_RUN,
    key: IdempotencyKey = None,
) -> FeedbackReceived:
    """Record adjustments of the dendrites; on disk before the reply."""
    history = services.engine.history
    at = history.record_feedback(
        run,
        feedback.ajustes_aplicados,
        validated=feedback.validacion,
        body=documents_sha256([feedback.model_dump_json()]),
        key=key,
    )
    return FeedbackReceived(
        validacion=feedback.validacion,
        timestamp=iso_time(at),
        estadisticas=history.feedback_statistics(run),
    )


@router.get("/status", responses=reply(legacy.STATUS) | problems(UnknownRun))
def status(services: ServicesHere, run: RunQuery = DEFAULT_RUN) -> Status:
    """Return the state of the server and the statistics of a run."""
    found = services.engine.statistics.status(run)
    return found.model_copy(update={"traffic": services.traffic.month()})


@router.get("/metricas", responses=reply(legacy.METRICS) | problems(UnknownRun))
def metricas(services: ServicesHere, run: RunQuery = DEFAULT_RUN) -> Metrics:
    """Return a run's recent losses and their trend."""
    return services.engine.statistics.metrics(run)


@router.get("/info", responses=reply(legacy.INFO) | problems(UnknownRun))
def info(services: ServicesHere, run: RunQuery = DEFAULT_RUN) -> Info:
    """Return the architecture of a run's model, the server's identity and its protocol version."""
    return services.engine.statistics.info(run)


@router.get("/health", responses=reply(legacy.HEALTH))
async def health(services: ServicesHere) -> Health:
    """Return that the server is alive; needs no token."""
    return Health(
        timestamp=datetime.now(UTC).isoformat(timespec="milliseconds"),
        uptime_seconds=services.engine.statistics.uptime_seconds(),
    )


@router.post(
    "/diagnostico",
    responses=reply(legacy.DIAGNOSIS) | problems(UnknownRun, OutOfDeviceMemory),
)
async def diagnostico(services: ServicesHere, run: RunQuery = DEFAULT_RUN) -> Diagnosis:
    """Run a forward and a backward pass on the real device, changing no run."""
    test = await services.compute.run(services.engine.inference.diagnose, run)
    device, shapes = services.engine.device, test.predictions
    return Diagnosis(
        test_input_shape=next(iter(test.inputs.values())),
        outputs_shapes=OutputShapes(
            anomaly=shapes.get("anomaly_prob", []),
            dendrites=shapes.get("dendrites", []),
            coherence=shapes.get("coherence", []),
        ),
        gpu_info=DeviceInfo(cuda=device.is_cuda, device=device.name),
        seconds=test.seconds,
    )
