"""An example of every message of the seven calls of the earlier system."""

from omega21.server.openapi.examples import DIGEST, FEEDBACK_STATISTICS, TIMESTAMP

DENDRITES = [0.125] * 16
COHERENCE = [-0.25] * 64

TRAIN_LAYER2 = {
    "samples": [{"input_data": [0.5] * 1600, "anomaly_label": 0, "timestamp": TIMESTAMP}],
    "epochs": 1,
}
TRAINED = {
    "status": "trained",
    "loss": 0.3125,
    "anomaly_prob": 0.25,
    "dendrites": DENDRITES,
    "coherence": COHERENCE,
    "batch_size": 1,
    "step": 9,
    "durable_step": 0,
    "outputs": {
        "anomaly_prob": 0.25,
        "dendrite_adjustments": DENDRITES,
        "coherence_state": COHERENCE,
    },
    "capa_info": {
        "capa2_activations": 0.5,
        "capa3_activations": 0.25,
        "capa4_activations": 0.125,
    },
    "timestamp": TIMESTAMP,
    "run": "default",
    "digest": DIGEST,
}
FEEDBACK = {"ajustes_aplicados": DENDRITES, "validacion": True, "timestamp": TIMESTAMP}
FEEDBACK_RECEIVED = {
    "status": "feedback_recibido",
    "validacion": True,
    "timestamp": TIMESTAMP,
    "estadisticas": FEEDBACK_STATISTICS,
}
STATUS = {
    "status": "online",
    "modelo": "CortezaCognitivaV4",
    "estadisticas": {
        "total_muestras": 500,
        "total_batches": 8,
        "loss_promedio_global": 0.25,
        "loss_promedio_ultimos_100": 0.25,
        "anomalia_media": 0.125,
        "tiempo_transcurrido_seg": 60.5,
        "dispositivo": "cuda",
        "gpu_memoria_mb": 512.0,
        "feedback": FEEDBACK_STATISTICS,
    },
    "torch_version": "2.13.0",
    "cuda_available": True,
    "run": "default",
    "state": "idle",
    "step": 8,
    "target": 8,
    "durable_step": 0,
    "machine": {
        "device": "NVIDIA Tesla T4",
        "device_memory_total": 15_828_320_256,
        "device_memory_free": 15_001_321_472,
        "process_memory": 1_210_000_000,
        "cpus": 2,
        "disk_free": 80_000_000_000,
        "clock": 1_767_225_600.5,
    },
    "traffic": {
        "tunnel": "ngrok",
        "month": "2025-01",
        "requests": 120,
        "bytes_in": 40_000_000,
        "bytes_out": 2_000_000,
        "requests_left": 19_880,
        "bytes_left": 958_000_000,
    },
}
HEALTH = {"alive": True, "timestamp": TIMESTAMP, "uptime_seconds": 60.5}
INFO = {
    "nombre": "CortezaCognitivaV4",
    "version": "0.1.0",
    "arquitectura": {
        "capas": ["capa2", "capa3", "capa4", "capa5"],
        "parametros_totales": 12_000_000,
        "parametros_entrenables": 12_000_000,
    },
    "flujo": {"entrada": "[n, 1600]", "procesamiento": "capas 2 a 5", "salida": "3"},
    "protocol": 1,
    "server_id": "c4ca4238a0b923820dcc509a6f75849b",
    "run": "default",
}
DIAGNOSIS = {
    "status": "diagnostico_ok",
    "test_input_shape": [2, 1600],
    "outputs_shapes": {"anomaly": [2, 1], "dendrites": [2, 16], "coherence": [2, 64]},
    "gpu_info": {"cuda": True, "device": "cuda"},
    "seconds": 0.25,
}
METRICS = {
    "ultimos_20_losses": [0.5, 0.25, 0.125],
    "tendencia": "mejorando",
    "anomalias_detectadas": 50,
    "feedback_tasa_exito": 0.75,
}
