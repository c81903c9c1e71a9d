"""Feeds loggers from the run folder, each in a thread of its own, with a cursor on disk.

The thread reads stored results from its cursor on; so a slow logger delays nothing, one that is
added later gets the whole run, and one that missed something gets it the next time. The cursor is
moved before the points are logged: no step is ever logged twice, and a kill in between loses those
points for that logger only.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydantic import BaseModel

from omega21.client.loggers import LoggedRun, Logger, LoggerChoice, Point, open_logger
from omega21.client.store.result_tables import StoredEvaluation
from omega21.client.store.results import Results
from omega21.client.store.run_folder import RunFolder
from omega21.data.durable import make_private_folder, write_durably
from omega21.language import _
from omega21.protocol.plan import Segment
from omega21.protocol.steps import StepRecord

FINISH_SECONDS: Final = 30.0
"""Maximum wait for a logger at the end of a training; the next training logs the rest."""

STOP_SECONDS: Final = 2.0
"""The same after a training was stopped."""

_AT_ONCE: Final = 1000
_log = logging.getLogger("omega21.loggers")


class Feed:
    """One logger and its thread."""

    def __init__(self, chosen: LoggerChoice, *, run: LoggedRun, results: Results) -> None:
        kind = type(chosen)
        self.name = chosen if isinstance(chosen, str) else f"{kind.__module__}.{kind.__qualname__}"
        self.failure: str | None = None
        self._chosen = chosen
        self._run = run
        self._results = results
        self._path = run.folder / "loggers" / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', self.name)}.json"
        self._more = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._work, name=f"logger {self.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Signal that there are new results."""
        self._more.set()

    def finish(self, deadline: float) -> bool:
        """Finish the logger; return whether it finished before `deadline` (monotonic)."""
        self._is_over = True
        self._more.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            logger = open_logger(self._chosen)
            logger.start(self._run)
            while True:
                self._more.wait()
                self._more.clear()
                is_over = self._is_over  # read first: results stored before this are logged
                self._catch_up(logger)
                if is_over:
                    break
            logger.finish()
        except Exception as error:  # noqa: BLE001 - a logger is anybody's code, and never harms
            _log.info("logger %s failed", self.name, exc_info=True)
            self.failure = f"{type(error).__name__}: {error}"

    def _catch_up(self, logger: Logger) -> None:
        step, evaluated = self._cursor()
        while step < self._results.last_step:
            rows = list(self._results.rows(first=step + 1, last=step + _AT_ONCE))
            if not rows:
                break
            step = rows[-1].step
            self._hand_over(logger, list(_points(rows)), cursor=(step, evaluated))
        if found := self._results.evaluations(after=evaluated):
            evaluated = found[-1].evaluation.step
            self._hand_over(logger, [_point(one) for one in found], cursor=(step, evaluated))

    def _hand_over(
        self, logger: Logger, points: Sequence[Point], *, cursor: tuple[int, int]
    ) -> None:
        step, evaluated = cursor
        make_private_folder(self._path.parent)
        write_durably(self._path, json.dumps({"step": step, "evaluated": evaluated}).encode())
        logger.log(points)

    def _cursor(self) -> tuple[int, int]:
        if not self._path.exists():
            return 0, 0
        found = json.loads(self._path.read_bytes())
        return int(found["step"]), int(found["evaluated"])


class Feeds:
    """The loggers of one training; `failures` returns those that failed since the last call."""

    def __init__(self, chosen: Sequence[LoggerChoice], *, folder: RunFolder, number: int) -> None:
        run = LoggedRun(
            name=folder.record.run,
            id=folder.record.id,
            folder=folder.path,
            parameters=parameters(folder, folder.segments[number]),
        )
        self._feeds = [Feed(choice, run=run, results=folder.results) for choice in chosen]
        self._told: set[str] = set()

    def wake(self) -> None:
        """Signal that there are new results."""
        for feed in self._feeds:
            feed.wake()

    def failures(self) -> list[str]:
        """Report each failed logger once, with the reason."""
        new = [feed for feed in self._feeds if feed.failure and feed.name not in self._told]
        self._told.update(feed.name for feed in new)
        return [
            _("logger {name} failed and is disabled: {reason}").format(
                name=feed.name, reason=feed.failure
            )
            for feed in new
        ]

    def finish(self, seconds: float = FINISH_SECONDS) -> list[str]:
        """Finish all loggers; report those that failed or were too slow."""
        deadline = time.monotonic() + seconds
        slow = [feed.name for feed in self._feeds if not feed.finish(deadline)]
        return self.failures() + [
            _("logger {name} is behind; it gets the rest in the run's next training").format(
                name=name
            )
            for name in slow
        ]


def parameters(folder: RunFolder, segment: Segment) -> dict[str, str | int | float | bool]:
    """Return the parameters of a run and a segment, by dotted names."""
    source = segment.source
    found: dict[str, str | int | float | bool] = {
        "samples": segment.samples,
        "batch_size": segment.batch_size,
        "epochs": segment.epochs,
        "kind": source.kind,
        "data_seed": source.seed,
    }
    if source.anomaly_percent is not None:
        found["anomaly_percent"] = source.anomaly_percent
    return found | dict(_leaves(folder.record.config))


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, str | int | float | bool)
            yield f"{prefix}{name}", value if plain else str(value)


def _points(rows: Sequence[StepRecord]) -> Iterator[Point]:
    for row in rows:
        rate = row.samples / row.seconds if row.seconds > 0 else None
        metrics = {"loss": row.loss, **_under("metrics", row.metrics), "samples_per_second": rate}
        yield Point(row.step, _known(metrics), row.ended_at)


def _point(found: StoredEvaluation) -> Point:
    evaluation = found.evaluation
    metrics = {"loss": evaluation.loss, **evaluation.metrics}
    return Point(evaluation.step, _known(_under("evaluation", metrics)), found.ended_at)


def _under(group: str, metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    return {f"{group}/{name}": value for name, value in metrics.items()}


def _known(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}
