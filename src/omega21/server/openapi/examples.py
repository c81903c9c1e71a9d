"""An example of every message, for the OpenAPI document.

A test parses each of them with its class.
"""

from typing import Any

from fastapi import Body
from pydantic import BaseModel

from omega21.protocol.shards import SHARD_MEDIA_TYPE

_RUN_ID = "4f1c6e0a9b2d48d7a3e5f60718293a4b"
_SHARD = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_OTHER_SHARD = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
DIGEST = "6b86b273ff34fce19d6b804eff5a3f57"
TIMESTAMP = "2025-01-31T12:00:00.000+00:00"
FEEDBACK_STATISTICS = {"recibido": 4, "exitoso": 3, "tasa_exito": 0.75}

CREATE_RUN = {
    "id": _RUN_ID,
    "config": {
        "task": {"kind": "code", "entry": "net:build", "code_sha256": _OTHER_SHARD},
        "sample_schema": {
            "inputs": {"x": {"dtype": "float32", "shape": [1, 8, 8]}},
            "targets": {"y": {"dtype": "int64"}},
        },
        "precision": "auto",
        "seed": 42,
    },
}
RUN_SUMMARY = {
    "run": "mi-ejecucion",
    "id": _RUN_ID,
    "state": "training",
    "step": 3,
    "target": 8,
    "plan_steps": 8,
    "durable_step": 0,
    "paused": False,
    "revision": 0,
    "digest": DIGEST,
}
RUN_LIST = {"runs": [RUN_SUMMARY | {"loss": 0.0123, "metrics": {"auroc": 0.9871}}]}
RUN_STATE = RUN_SUMMARY | {
    "weights_sha256": _OTHER_SHARD,
    "segments": 1,
    "plan_sha256": _SHARD,
    "non_finite_in_a_row": 0,
    "waiting_for": [],
    "environments": [
        {
            "from_step": 1,
            "device": "cpu",
            "precision": "float32",
            "deterministic": True,
            "threads": 2,
            "torch_version": "2.13.0",
            "omega21_version": "0.1.0",
        }
    ],
    "config": CREATE_RUN["config"],
    "created_at": 1738324800.0,
}
LOG_IN = {"token": "the-token-that-the-server-printed"}
PROVE_TOKEN = {"share": "5e" * 256}
TOKEN_PROOF = {"token_needed": True, "share": "a3" * 256, "proof": "c4" * 32}
SESSION_STATE = {"login_needed": True, "logged_in": False}
RUN_REMOVED = {"run": "mi-ejecucion", "id": _RUN_ID}
ADVANCE = {"run_id": _RUN_ID, "to": 8}
CONTROL = {"run_id": _RUN_ID, "revision": 1, "paused": True}

_SEGMENT = {
    "samples": 500,
    "batch_size": 64,
    "epochs": 1,
    "order_seed": 42,
    "source": {"kind": "simple", "seed": 42, "offset": 0, "anomaly_percent": 10.0},
    "shards": [
        {"sha256": _SHARD, "samples": 256},
        {"sha256": _OTHER_SHARD, "samples": 244},
    ],
}
PUT_SEGMENT = {"run_id": _RUN_ID, "segment": _SEGMENT}
SEGMENT_STORED = RUN_SUMMARY | {"missing": [_OTHER_SHARD]}
PLAN = {"run": "mi-ejecucion", "id": _RUN_ID, "segments": [_SEGMENT]}

SHARD_STORED = {"sha256": _SHARD, "samples": 256, "bytes": 1_639_424, "stored": True}
MISSING_REQUEST = {"shards": [_SHARD, _OTHER_SHARD]}
MISSING_REPLY = {"missing": [_OTHER_SHARD]}

CODE_REPLY = {
    "allowed": ["any"],
    "install": False,
    "offers": [{"entry": "net:build", "sha256": _OTHER_SHARD}],
}
CODE_STORED = {"sha256": _OTHER_SHARD, "files": 3, "bytes": 5120, "stored": True}
MISSING_CODE = {"code": [_SHARD, _OTHER_SHARD]}

STEPS_REPLY = RUN_SUMMARY | {
    "steps": [
        {
            "step": 3,
            "loss": 0.3125,
            "samples": 64,
            "digest": DIGEST,
            "ended_at": 1738324800.125,
            "seconds": 0.1875,
            "metrics": {"accuracy": 0.875},
        }
    ]
}

COMPUTE = {"shards": [_SHARD]}
EVALUATE_REPLY = {
    "run": "mi-ejecucion",
    "step": 8,
    "samples": 2,
    "loss": 0.125,
    "metrics": {"accuracy": 1.0},
    "scores": "AACAPgAAQD8=",
}
PROBE_REQUEST = {"config": CREATE_RUN["config"], "shard": _SHARD}
PROBE_REPLY = {
    "found": {
        "parameters": 4810,
        "trained_parameters": 4810,
        "loss": 2.375,
        "metrics": {"accuracy": 0.5},
        "predictions": {"output": {"dtype": "float32", "shape": [10]}},
        "differs": None,
        "alone": None,
        "torch_version": "2.9.1",
        "python_version": "3.12.11",
    }
}

_FIGURES = {
    "step": 8,
    "samples": 200,
    "loss": 0.125,
    "metrics": {
        "auroc": 0.99,
        "average_precision": 0.95,
        "positives": 20.0,
        "true_positives": 19.0,
        "false_positives": 1.0,
        "accuracy": 0.99,
    },
}
RECORD_EVALUATION = {"run_id": _RUN_ID} | _FIGURES
EVALUATION = {"number": 1, "at": 1738324800.0} | _FIGURES
EVALUATIONS_REPLY = {"run": "mi-ejecucion", "evaluations": [EVALUATION]}

SERIES_REPLY = RUN_SUMMARY | {
    "etag": "4f1c6e0a.training.3.8.0.0.4.2",
    "evaluations": 0,
    "feedback": 4,
    "events": 2,
    "width": 2,
    "waiting_for": 0,
    "points": {
        "step": [2, 3],
        "loss": [0.5, 0.3125],
        "loss_min": [0.4375, 0.3125],
        "loss_max": [0.5625, 0.3125],
        "samples": [128, 64],
        "seconds": [0.375, 0.1875],
        "ended_at": [1738324799.5, 1738324800.125],
        "non_finite": [0, 0],
        "metrics": {"accuracy": [0.75, 0.875]},
    },
}
FEEDBACK_HISTORY = {
    "run": "mi-ejecucion",
    "statistics": FEEDBACK_STATISTICS,
    "feedback": [{"at": 1738324800.0, "validated": True, "adjustments": [0.125] * 16}],
}
EVENTS_REPLY = {
    "events": [
        {"at": 1738324800.0, "kind": "non_finite", "run": "mi-ejecucion", "step": 3, "count": 1},
        {"at": 1738324700.0, "kind": "restarted", "detail": "killed by SIGKILL (out of memory?)"},
    ]
}
MEMORY_REPLY = {"samples": [{"at": 1738324800.0, "process_mb": 640.0, "device_mb": 512.0}]}

LOG_LINES = {
    "lines": [
        '{"time": "2025-01-31T12:00:00.000Z", "level": "info",'
        ' "logger": "omega21.server.http.errors", "process": 4711,'
        ' "request": "3f2a1b0c9d8e7f60", "message": "GET /status -> 200 (3 ms)"}'
    ]
}

RUN_LOG = {
    "run": "digits",
    "lines": [{"number": 1, "at": 1738324800.5, "text": "epoch 1: the loss falls"}],
}

PART_STORED = {"sha256": "9f" * 32, "bytes": 8_388_608}

RESTORE_CHECKPOINT = {
    "run_id": "4f1c6e0a9b2d48d7a3e5f60718293a4b",
    "sha256": "1e" * 32,
    "bytes": 12_582_912,
    "parts": ["9f" * 32, "a0" * 32],
}


def body(example: dict[str, Any]) -> Any:
    """Declare a JSON message, with an example."""
    return Body(openapi_examples={"example": {"value": example}})


def reply(
    example: dict[str, Any],
    description: str = "Done",
    *,
    status: int = 200,
    model: type[BaseModel] | None = None,
) -> dict[int | str, dict[str, Any]]:
    """Declare a JSON reply, with an example; `model` if it is not the call's usual one."""
    declared: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"example": example}},
    }
    return {status: declared | ({"model": model} if model else {})}


def tensors(description: str) -> dict[str, Any]:
    """Declare a safetensors file as content."""
    schema = {"type": "string", "format": "binary", "description": description}
    return {SHARD_MEDIA_TYPE: {"schema": schema}}


def tensors_reply(description: str) -> dict[int | str, dict[str, Any]]:
    """Declare a safetensors file as a reply."""
    header = {"description": "the step whose weights these are", "schema": {"type": "integer"}}
    return {
        200: {
            "description": f"A safetensors file: {description}",
            "headers": {"Omega21-Step": header},
            "content": tensors(description),
        }
    }
