"""Statistics for people, all derived from stored results and feedback."""

import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from omega21.engine.options import EngineOptions
from omega21.engine.storage.ledger import Ledger, Totals
from omega21.executors.base import Device
from omega21.protocol import PROTOCOL_VERSION
from omega21.protocol.legacy import (
    Architecture,
    FeedbackStatistics,
    Flow,
    Info,
    Metrics,
    Statistics,
    Status,
)
from omega21.protocol.models import ModelConfig
from omega21.protocol.runs import RunSummary

MODEL_NAME = "CortezaCognitivaV4"
_TREND_LOSSES = 20


class Uptime:
    """Time since this was made, by a clock that nobody sets."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._started


def disk_limit(folder: Path, wanted: int | None) -> int:
    """Return the most bytes that shards may take: `wanted`, or 80 % of what they could."""
    if wanted is not None:
        return wanted
    stored = sum(path.stat().st_size for path in folder.glob("shards/??/*.safetensors"))
    return int((shutil.disk_usage(folder).free + stored) * 0.8)


def feedback(totals: Totals) -> FeedbackStatistics:
    """Count feedback."""
    rate = totals.feedback_validated / totals.feedback if totals.feedback else 0.0
    return FeedbackStatistics(
        recibido=totals.feedback, exitoso=totals.feedback_validated, tasa_exito=rate
    )


def status(
    run: RunSummary,
    *,
    totals: Totals,
    recent: list[float],
    device: Device,
    uptime_seconds: float,
    options: EngineOptions,
    data_dir: Path,
) -> Status:
    """Describe the server and a run; zeros, never nulls, where nothing was trained yet."""
    return Status(
        modelo=MODEL_NAME,
        estadisticas=Statistics(
            total_muestras=totals.samples,
            total_batches=totals.steps,
            loss_promedio_global=totals.mean_loss,
            loss_promedio_ultimos_100=sum(recent) / len(recent) if recent else 0.0,
            anomalia_media=totals.mean_anomaly_prob,
            tiempo_transcurrido_seg=uptime_seconds,
            dispositivo=device.name,
            gpu_memoria_mb=device.memory_mb(),
            feedback=feedback(totals),
        ),
        torch_version=device.torch_version,
        cuda_available=device.cuda_available,
        run=run.run,
        state=run.state,
        step=run.step,
        target=run.target,
        durable_step=run.durable_step,
        restarts=options.restarts,
        last_death=options.last_death,
        machine=device.machine(data_dir),
    )


def metrics(ledger: Ledger, key: int) -> Metrics:
    """Describe the recent losses, their trend, and the anomalies found while training."""
    totals = ledger.totals(key)
    losses = ledger.recent_losses(key, _TREND_LOSSES)
    return Metrics(
        ultimos_20_losses=losses,
        tendencia=trend(losses),
        anomalias_detectadas=totals.anomalies,
        feedback_tasa_exito=feedback(totals).tasa_exito,
    )


def trend(losses: list[float]) -> Literal["mejorando", "empeorando", "sin_cambios"]:
    """Name the direction of losses by the slope of a least-squares line through all of them.

    A change along the line of less than 1 % of the mean loss, or less than its own standard
    error, is none.
    """
    count = len(losses)
    if count < 3:
        return "sin_cambios"
    steps = np.arange(count) - (count - 1) / 2
    values = np.asarray(losses)
    spread = float(steps @ steps)
    slope = float(steps @ values) / spread
    residuals = values - values.mean() - slope * steps
    error = float(np.sqrt(residuals @ residuals / (count - 2) / spread))
    if abs(slope) <= error or abs(slope) * (count - 1) < 0.01 * abs(values.mean()):
        return "sin_cambios"
    return "mejorando" if slope < 0 else "empeorando"


def info(run: str, config: ModelConfig, parameters: tuple[int, int], *, server_id: str) -> Info:
    """Describe the architecture; `parameters` are all, and those that are trained."""
    return Info(
        nombre=MODEL_NAME,
        version=version("omega21"),
        arquitectura=Architecture(
            capas=[
                "capa 2: LSTM bidireccional y codificador Transformer sobre "
                f"{config.tokens} tokens de {config.token_features}, unidos por una unidad "
                "multimodal con compuerta",
                f"capa 3: MLP residual hasta {config.width}",
                f"capa 4: autoatención de {config.attention_heads} cabezas a {config.width}",
                f"capa 5: anomalía, {config.dendrites} dendritas, {config.coherence} coherencias",
            ],
            parametros_totales=parameters[0],
            parametros_entrenables=parameters[1],
        ),
        flujo=Flow(
            entrada=f"{config.features} características float32",
            procesamiento="capa 2 → capa 3 → capa 4",
            salida=f"probabilidad de anomalía, {config.dendrites} dendritas y "
            f"{config.coherence} coherencias en [-1, 1]",
        ),
        protocol=PROTOCOL_VERSION,
        server_id=server_id,
        run=run,
    )
