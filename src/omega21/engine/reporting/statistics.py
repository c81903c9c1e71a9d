"""Statistics for people, all derived from step records and feedback."""

import time
from dataclasses import KW_ONLY, dataclass, field
from importlib.metadata import version
from typing import Literal

import numpy as np

from omega21.engine.options import EngineOptions
from omega21.engine.registry import Registry
from omega21.engine.reporting.legacy import count_anomalies, mean_probability
from omega21.engine.step_writer import StepWriter
from omega21.engine.storage.data_folder import DataFolder
from omega21.engine.tasks.code import Code
from omega21.executors.base import Device
from omega21.models.registry import describe
from omega21.protocol import PROTOCOL_VERSION
from omega21.protocol.legacy import (
    Architecture,
    FeedbackStatistics,
    Flow,
    Info,
    Metrics,
    Status,
)
from omega21.protocol.legacy import Statistics as StatisticsReply

_RECENT_LOSSES = 100
_TREND_LOSSES = 20


@dataclass(frozen=True)
class Statistics:
    """Describes the server and its runs. Thread-safe."""

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    step_writer: StepWriter
    device: Device
    options: EngineOptions
    code: Code
    _started: float = field(default_factory=time.monotonic)

    def uptime_seconds(self) -> float:
        """Seconds since the start, by the monotonic clock."""
        return time.monotonic() - self._started

    def status(self, name: str) -> Status:
        """Describe the server and a run; zeros, not nulls, if nothing was trained yet.

        Raises UnknownRun.
        """
        with self.registry.locked():
            run = self.registry.get(name)
            summary = run.summary()
        self.step_writer.flush(run)
        totals = self.folder.ledger.steps.totals(run.key)
        recent = self.folder.ledger.steps.recent_losses(run.key, _RECENT_LOSSES)
        device = self.device
        return Status(
            modelo=describe(run.config).name,
            estadisticas=StatisticsReply(
                total_muestras=totals.samples,
                total_batches=totals.steps,
                loss_promedio_global=totals.mean_loss,
                loss_promedio_ultimos_100=sum(recent) / len(recent) if recent else 0.0,
                anomalia_media=mean_probability(totals),
                tiempo_transcurrido_seg=self.uptime_seconds(),
                dispositivo=device.name,
                gpu_memoria_mb=device.memory_mb(),
                feedback=feedback_statistics(*self.folder.ledger.feedback.counts(run.key)),
            ),
            torch_version=device.torch_version,
            cuda_available=device.cuda_available,
            run=summary.run,
            state=summary.state,
            step=summary.step,
            target=summary.target,
            durable_step=summary.durable_step,
            restarts=self.options.restarts,
            last_death=self.options.last_death,
            machine=device.machine(self.folder.path),
        )

    def metrics(self, name: str) -> Metrics:
        """Describe the recent losses, their trend, and the anomalies detected in training.

        Raises UnknownRun.
        """
        run = self.registry.get(name)
        self.step_writer.flush(run)
        totals = self.folder.ledger.steps.totals(run.key)
        losses = self.folder.ledger.steps.recent_losses(run.key, _TREND_LOSSES)
        return Metrics(
            ultimos_20_losses=losses,
            tendencia=trend(losses),
            anomalias_detectadas=count_anomalies(totals),
            feedback_tasa_exito=feedback_statistics(
                *self.folder.ledger.feedback.counts(run.key)
            ).tasa_exito,
        )

    def info(self, name: str) -> Info:
        """Describe the architecture of a run's model, and this server. Raises UnknownRun."""
        config = self.registry.get(name).config
        self.code.prepare(config.task)
        total, trainable = self.device.parameters(config)
        model = describe(config)
        return Info(
            nombre=model.name,
            version=version("omega21"),
            arquitectura=Architecture(
                capas=list(model.layers),
                parametros_totales=total,
                parametros_entrenables=trainable,
            ),
            flujo=Flow(entrada=model.input, procesamiento=model.process, salida=model.output),
            protocol=PROTOCOL_VERSION,
            server_id=self.folder.server_id,
            run=name,
            allowed_code=self.options.allow_code.texts(),
            allows_install=self.options.allow_install,
        )


def feedback_statistics(received: int, validated: int) -> FeedbackStatistics:
    """Describe counts of feedback."""
    rate = validated / received if received else 0.0
    return FeedbackStatistics(recibido=received, exitoso=validated, tasa_exito=rate)


def trend(losses: list[float]) -> Literal["mejorando", "empeorando", "sin_cambios"]:
    """Return the direction of losses, by the slope of a least-squares line.

    A change along the line of less than 1 % of the mean loss, or less than its own standard
    error, counts as no trend.
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
