"""The seven calls of the earlier system: their field names are fixed.

Requests ignore unknown fields, and replies may have more fields than older clients read.
"""

from typing import Annotated, Literal

from pydantic import Field

from omega21.protocol.link.usage import MonthTraffic
from omega21.protocol.messages import LegacyRequest, Reply

FEATURES = 1600
DENDRITES = 16
COHERENCE = 64
ADJUSTMENTS = DENDRITES
"""Number of adjustments in feedback: one for each."""

Adjustment = Annotated[float, Field(ge=-1, le=1)]


class TrainingSample(LegacyRequest):
    """One sample of an inline batch."""

    input_data: list[float]
    anomaly_label: int
    timestamp: str | float | None = None


class TrainLayer2(LegacyRequest):
    """An inline batch: trained at the end of the plan, `epochs` steps on the whole of it."""

    samples: list[TrainingSample]
    epochs: int = Field(default=1, ge=1, le=1000)


class LayerActivations(Reply):
    """Mean absolute activation of layers 2, 3 and 4 over the batch."""

    capa2_activations: float
    capa3_activations: float
    capa4_activations: float


class LayerOutputs(Reply):
    """The three heads, as means over the batch."""

    anomaly_prob: float
    dendrite_adjustments: list[float]
    coherence_state: list[float]


class Trained(Reply):
    """The result of an inline batch: loss and step are the last epoch's."""

    status: Literal["trained"] = "trained"
    loss: float
    anomaly_prob: float
    dendrites: list[float]
    coherence: list[float]
    batch_size: int
    step: int
    durable_step: int
    outputs: LayerOutputs
    capa_info: LayerActivations
    timestamp: str
    run: str
    digest: str


class FeedbackDendritas(LegacyRequest):
    """Adjustments of the dendrites that the client applied, and whether they were validated."""

    ajustes_aplicados: Annotated[
        list[Adjustment], Field(min_length=DENDRITES, max_length=DENDRITES)
    ]
    validacion: bool
    timestamp: str | float | None = None


class FeedbackStatistics(Reply):
    """Feedback received, how much of it validated, and the share."""

    recibido: int
    exitoso: int
    tasa_exito: float


class FeedbackReceived(Reply):
    """Feedback is on disk."""

    status: Literal["feedback_recibido"] = "feedback_recibido"
    validacion: bool
    timestamp: str
    estadisticas: FeedbackStatistics


class Statistics(Reply):
    """Statistics of a run, all derived from its stored results and feedback."""

    total_muestras: int = Field(description="samples trained, each epoch counted")
    total_batches: int
    loss_promedio_global: float
    loss_promedio_ultimos_100: float
    anomalia_media: float
    tiempo_transcurrido_seg: float = Field(description="since the server process started")
    dispositivo: str
    gpu_memoria_mb: float
    feedback: FeedbackStatistics


class Machine(Reply):
    """The server's device and memory at this moment; sizes in bytes."""

    device: str = Field(description="name of the GPU; cpu or mps without one")
    device_memory_total: int | None = Field(default=None, description="null without a GPU")
    device_memory_free: int | None = None
    process_memory: int | None = Field(
        default=None, description="that the server takes; null where its system does not tell"
    )
    cpus: int
    disk_free: int = Field(description="where the data folder is")
    clock: float = Field(description="seconds since 1970")


class Status(Reply):
    """The state of the server, in the words of the earlier contract."""

    status: Literal["online"] = "online"
    modelo: str
    estadisticas: Statistics
    torch_version: str
    cuda_available: bool
    run: str
    state: str
    step: int
    target: int
    durable_step: int
    restarts: int = Field(default=0, description="of the server process, by its supervisor")
    last_death: str | None = Field(default=None, description="when and why it ended last")
    machine: Machine | None = Field(default=None, description="null from an older server")
    traffic: MonthTraffic | None = Field(
        default=None, description="of the server's port; null from a server that does not count"
    )


class Health(Reply):
    """The server is alive."""

    alive: Literal[True] = True
    timestamp: str
    uptime_seconds: float


class Architecture(Reply):
    """The layers and the number of parameters."""

    capas: list[str]
    parametros_totales: int
    parametros_entrenables: int


class Flow(Reply):
    """From input to output."""

    entrada: str
    procesamiento: str
    salida: str


class Info(Reply):
    """The model, the protocol version and the identity of this server."""

    nombre: str
    version: str
    arquitectura: Architecture
    flujo: Flow
    protocol: int = Field(description="version of the protocol")
    server_id: str = Field(description="drawn when the data folder was made")
    run: str
    allowed_code: list[str] = Field(
        default_factory=list, description="users' source: `any`, or digests as `sha256:…`"
    )
    allows_install: bool = Field(
        default=False, description="whether requirements of a source are installed"
    )


class OutputShapes(Reply):
    """Shapes of the three heads' outputs."""

    anomaly: list[int]
    dendrites: list[int]
    coherence: list[int]


class DeviceInfo(Reply):
    """The device that the self-test ran on."""

    cuda: bool
    device: str


class Diagnosis(Reply):
    """A forward and a backward pass ran on the real device, on real tensors."""

    status: Literal["diagnostico_ok"] = "diagnostico_ok"
    test_input_shape: list[int]
    outputs_shapes: OutputShapes
    gpu_info: DeviceInfo
    seconds: float


class Metrics(Reply):
    """Recent losses and their trend."""

    ultimos_20_losses: list[float]
    tendencia: Literal["mejorando", "empeorando", "sin_cambios"]
    anomalias_detectadas: int = Field(description="samples with an anomaly probability over 0.5")
    feedback_tasa_exito: float
