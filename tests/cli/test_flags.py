"""The commands and their flags: one that is added, renamed or dropped is a decision made here."""

from collections.abc import Iterator
from typing import Any, get_args

import typer

from omega21.cli.main import app
from omega21.cli.options import KindName, PrecisionName
from omega21.client.presets import PRESETS
from omega21.protocol.plan import Kind
from omega21.protocol.runs import PrecisionAsked

FLAGS = {
    "omega21": [
        "--version",
        "--log-level",
    ],
    "omega21 train": [
        "ADDRESS",
        "--samples --muestras",
        "--batch-size --lote",
        "--kind --tipo",
        "--anomaly-percent --anomalias",
        "--seed --semilla",
        "--epochs --epocas",
        "--preset",
        "--data",
        "--run",
        "--validation --validacion",
        "--every --cada",
        "--diagnose --diagnostico",
        "--metrics --metricas",
        "--fast",
        "--local",
        "--pull-checkpoints",
        "--workdir",
        "--patience",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 resume": [
        "RUN",
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--pull-checkpoints",
        "--workdir",
        "--patience",
        "--timeout",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 serve": [
        "--host",
        "--port",
        "--data-dir",
        "--token",
        "--tunnel",
        "--cloudflared",
        "--device",
        "--precision",
        "--threads",
        "--disk-limit",
        "--max-runs",
        "--checkpoint-seconds",
        "--checkpoint-steps",
        "--log-level",
        "--stop-with-stdin",
    ],
    "omega21 demo": [
        "--samples --muestras",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 status": [
        "ADDRESS",
        "--run",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 metrics": [
        "ADDRESS",
        "--run",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 diagnose": [
        "ADDRESS",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 feedback": [
        "ADDRESS",
        "--adjustments --ajustes",
        "--validated --validado --rejected --rechazado",
        "--run",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 generate": [
        "FILE",
        "--samples --muestras",
        "--kind --tipo",
        "--anomaly-percent --anomalias",
        "--seed --semilla",
        "--first --primera",
        "--statistics --estadisticas",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 predict": [
        "RUN",
        "FILE",
        "--output -o",
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 export": [
        "RUN",
        "--weights",
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 verify": [
        "RUN",
        "--from",
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 doctor": [
        "ADDRESS",
        "--token",
        "--token-file",
        "--ca",
        "--workdir",
        "--timeout",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 forget": [
        "ADDRESS",
        "--json",
        "--quiet -q",
    ],
    "omega21 checkpoint": [],
    "omega21 checkpoint pull": [
        "RUN",
        "--weights",
        "--output -o",
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 runs": [
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 runs list": [
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 runs show": [
        "RUN",
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 runs pause": [
        "RUN",
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 runs unpause": [
        "RUN",
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 runs remove": [
        "RUN",
        "--yes -y",
        "--url",
        "--token",
        "--token-file",
        "--ca",
        "--timeout",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 runs export": [
        "RUN",
        "--output -o",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
    "omega21 runs import": [
        "FILE",
        "--workdir",
        "--json",
        "--quiet -q",
        "--verbose -v",
    ],
}


def flags(command: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """Each command's path, and its arguments and flags in all their spellings."""
    found = []
    for parameter in command.params:
        spellings = [*parameter.opts, *parameter.secondary_opts]
        is_flag = any(text.startswith("-") for text in spellings)
        found.append(" ".join(spellings) if is_flag else parameter.name.upper())
    yield path, found
    for name, child in getattr(command, "commands", {}).items():
        yield from flags(child, f"{path} {name}")


def test_the_flags_are_these() -> None:
    assert dict(flags(typer.main.get_command(app), "omega21")) == FLAGS


def test_names_written_out_in_the_help_are_the_protocols() -> None:
    assert get_args(KindName) == get_args(Kind)
    assert get_args(PrecisionName) == get_args(PrecisionAsked)
    command: Any = typer.main.get_command(app)
    preset = next(p for p in command.commands["train"].params if p.name == "preset")
    assert all(name in preset.help for name in PRESETS)
