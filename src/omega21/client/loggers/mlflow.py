"""MLflow: to MLFLOW_TRACKING_URI, else into the run folder's `mlruns/`.

One MLflow run for each run, found again by its tag `omega21.run_id`.
"""

import os
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from omega21.client.loggers import LoggedRun, Logger, Point

_EXPERIMENT = "omega21"
_TAG = "omega21.run_id"
_AT_ONCE = 1000
"""Maximum number of metrics in one request to MLflow."""


class MLflow:
    """Logs through MLflow's client."""

    def start(self, run: LoggedRun) -> None:
        """Find or create the MLflow run."""
        place = os.environ.get("MLFLOW_TRACKING_URI")
        if not place:
            # A file store: MLflow prefers databases, whose packages it does not install.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            place = (run.folder / "mlruns").resolve().as_uri()
        self._client = MlflowClient(tracking_uri=place)
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(_EXPERIMENT)
        known = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{run.id}'")
        if known:
            self._run_id = known[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            return
        made = self._client.create_run(experiment, run_name=run.name, tags={_TAG: run.id})
        self._run_id = made.info.run_id
        parameters = [Param(name, str(value)) for name, value in run.parameters.items()]
        self._client.log_batch(self._run_id, params=parameters)

    def log(self, points: Sequence[Point]) -> None:
        """Log metrics, in requests of the maximum size."""
        metrics = [
            Metric(name, value, round(point.ended_at * 1000), point.step)
            for point in points
            for name, value in point.metrics.items()
        ]
        for start in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _AT_ONCE])

    def finish(self) -> None:
        """Mark the MLflow run as finished."""
        self._client.set_terminated(self._run_id)


def make() -> Logger:
    """Return the logger."""
    return MLflow()
