"""Presets of a training, the same on the command line and in `omega21.colab`."""

from dataclasses import dataclass
from typing import Final

from omega21.protocol.plan import Kind


@dataclass(frozen=True, slots=True)
class Preset:
    """Number of samples, batch size, kind, share of anomalies."""

    samples: int
    batch_size: int
    kind: Kind
    anomaly_percent: float


PRESETS: Final[dict[str, Preset]] = {
    "prueba_rapida": Preset(100, 32, "simple", 10),
    "entrenamiento_estandar": Preset(1000, 64, "neuronal", 10),
    "deteccion_anomalias": Preset(2000, 64, "temporal", 20),
    "entrenamiento_pesado": Preset(5000, 128, "neuronal", 15),
}
