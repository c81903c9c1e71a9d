"""`GET /prometheus`: metrics of the server and of every run in the Prometheus text format.

All of them are computed from the runs and their stored results at each scrape: there are no
separate counters that could differ.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import get_args

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from omega21.engine.engine import Engine
from omega21.executors.memory import process_bytes
from omega21.protocol.errors import UnknownRun
from omega21.protocol.runs import RunStatus
from omega21.server.services import ServicesHere

router = APIRouter(include_in_schema=False)

_GAUGES = {
    "step": "Last step applied",
    "target_step": "Step that the run is to reach",
    "durable_step": "Last step whose state is safe on disk",
    "loss": "Loss of the newest step that counted",
    "evaluation_loss": "Loss of the newest evaluation",
}
_METRICS = {
    "metric": "Metric of the newest step that counted",
    "evaluation_metric": "Metric of the newest evaluation",
}
_COUNTERS = {
    "steps": "Steps that counted",
    "samples": "Samples trained, each epoch counted",
    "feedback": "Feedback received",
    "feedback_validated": "Feedback that was validated",
}


@router.get("/prometheus")
def get_figures(services: ServicesHere) -> Response:
    """Return the metrics of the server and of all its runs."""
    registry = CollectorRegistry()
    registry.register(_Figures(services.engine))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Figures(Collector):
    """The metrics at the time of a scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield from self._server()
        yield from self._runs()

    def _server(self) -> Iterator[Metric]:
        engine = self._engine
        labels = {"version": version("omega21"), "device": engine.device.name}
        info = GaugeMetricFamily("omega21_info", "This server", labels=list(labels))
        info.add_metric(list(labels.values()), 1)
        yield info
        yield GaugeMetricFamily(
            "omega21_uptime_seconds",
            "Since the process started",
            engine.statistics.uptime_seconds(),
        )
        yield CounterMetricFamily(
            "omega21_restarts", "Of the server process, by its supervisor", engine.options.restarts
        )
        yield GaugeMetricFamily(
            "omega21_device_memory_bytes",
            "Of the device, 0 without a GPU",
            engine.device.memory_mb() * 1e6,
        )
        resident = process_bytes()
        if resident is not None:
            yield GaugeMetricFamily(
                "omega21_resident_memory_bytes", "Of the server process", resident
            )

    def _runs(self) -> Iterator[Metric]:
        gauges = {
            name: GaugeMetricFamily(f"omega21_run_{name}", meaning, labels=["run"])
            for name, meaning in _GAUGES.items()
        }
        counters = {
            name: CounterMetricFamily(f"omega21_run_{name}", meaning, labels=["run"])
            for name, meaning in _COUNTERS.items()
        }
        metrics = {
            name: GaugeMetricFamily(f"omega21_run_{name}", meaning, labels=["run", "metric"])
            for name, meaning in _METRICS.items()
        }
        states = GaugeMetricFamily("omega21_run_state", "1 for its state", labels=["run", "state"])
        for summary in self._engine.runs.summaries():
            try:
                figures = self._of_run(summary.run)
                named = self._metrics_of_run(summary.run)
            except UnknownRun:  # removed meanwhile
                continue
            figures |= {
                "step": summary.step,
                "target_step": summary.target,
                "durable_step": summary.durable_step,
            }
            for name, value in figures.items():
                if value is not None:
                    (gauges.get(name) or counters[name]).add_metric([summary.run], value)
            for name, values in named.items():
                for metric, value in values.items():
                    if value is not None:
                        metrics[name].add_metric([summary.run, metric], value)
            for state in get_args(RunStatus):
                states.add_metric([summary.run, state], float(state == summary.state))
        yield states
        yield from (*gauges.values(), *metrics.values(), *counters.values())

    def _of_run(self, run: str) -> dict[str, float | None]:
        history = self._engine.history
        totals, feedback = history.totals(run), history.feedback_statistics(run)
        evaluation = history.newest_evaluation(run)
        return {
            "steps": totals.steps,
            "samples": totals.samples,
            "feedback": feedback.recibido,
            "feedback_validated": feedback.exitoso,
            "loss": history.newest(run)[0],
            "evaluation_loss": evaluation.loss if evaluation else None,
        }

    def _metrics_of_run(self, run: str) -> dict[str, dict[str, float | None]]:
        history = self._engine.history
        evaluation = history.newest_evaluation(run)
        return {
            "metric": history.newest(run)[1],
            "evaluation_metric": evaluation.metrics if evaluation else {},
        }
