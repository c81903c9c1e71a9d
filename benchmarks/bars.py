"""A figure beside its bar: how it is shown, and how it is written down."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGES = ("omega21", "torch", "numpy", "httpx", "uvicorn", "zstandard")


class Bar(NamedTuple):
    """A figure, what it has to reach, and what it was in each round.

    `most` turns the bar round: the figure may not exceed it.
    """

    name: str
    value: float
    bar: float
    rounds: tuple[float, ...] = ()
    most: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the figure reaches its bar; what could not be measured does not."""
        return self.value <= self.bar if self.most else self.value >= self.bar

    def as_dict(self) -> dict[str, Any]:
        """Return what the JSON holds."""
        return {**self._asdict(), "met": self.is_met}


def median_bar(name: str, rounds: Iterable[float], bar: float, *, most: bool = False) -> Bar:
    """Hold the median of several rounds against a bar."""
    values = tuple(rounds)
    return Bar(name, statistics.median(values), bar, values, most)


def show(bars: Sequence[Bar]) -> None:
    """Print figures beside their bars, with the spread where there are rounds."""
    for bar in bars:
        verdict = "pass" if bar.is_met else "MISSED"
        spread = f"{min(bar.rounds):.4g} to {max(bar.rounds):.4g}" if len(bar.rounds) > 1 else ""
        sign = "<=" if bar.most else ">="
        print(
            f"{bar.name:58s} {bar.value:9.4g}  {sign} {bar.bar:<7g}{verdict:7s} {spread}".rstrip()
        )
    sys.stdout.flush()


def machine() -> dict[str, Any]:
    """Describe what the figures were taken on."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def write(path: Path, bars: Sequence[Bar], figures: Mapping[str, Any]) -> None:
    """Write the bars and what is behind them."""
    report = {"machine": machine(), "bars": [bar.as_dict() for bar in bars], **figures}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def finish(bars: Sequence[Bar], figures: Mapping[str, Any], *, path: Path | None) -> int:
    """Write the report where one is wanted; the exit status, 1 when a bar is missed."""
    if path is not None:
        write(path, bars, figures)
    return 0 if all(bar.is_met for bar in bars) else 1
