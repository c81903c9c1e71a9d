"""Events of a server and its runs, derived from what is stored.

Some have rows of their own in the ledger (starts, restores, replays that differed), some are
derived from others (non-finite steps, micro-batches, environments), and some are only in the log of
this process (a full disk, a damaged checkpoint). No counters are kept for them.
"""

import logging
import re
import threading
import time
from collections import deque
from dataclasses import KW_ONLY, dataclass, field
from typing import Final, get_args

from omega21.engine.options import EngineOptions
from omega21.engine.registry import Registry
from omega21.engine.run import Run
from omega21.engine.step_writer import StepWriter
from omega21.engine.storage.data_folder import DataFolder
from omega21.protocol.errors import StorageFailure, StorageFull
from omega21.protocol.history import MAX_EVENTS, Event, EventKind
from omega21.protocol.runs import Environment

SERVER: Final = 0
"""The key of the server's own events: runs are numbered from 1."""

LOGGERS: Final = (
    "omega21.engine.step_writer",
    "omega21.engine.checkpointing",
    "omega21.engine.storage.checkpoints",
    "omega21.server.http.errors",
    "omega21.server.http.usage",
)
"""Loggers whose warnings are shown nowhere else."""

_KEPT_WARNINGS: Final = 100
_SHOWN: Final = tuple(kind for kind in get_args(EventKind) if kind != "warning")

logger = logging.getLogger(__name__)


class Warnings(logging.Handler):
    """Keeps the newest warnings of this process; a repeated one increases its count."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen = 0
        self._kept: deque[Event] = deque(maxlen=_KEPT_WARNINGS)
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning, without its traceback."""
        event = Event(at=record.created, kind="warning", detail=record.getMessage())
        with self._guard:
            self.seen += 1
            if self._kept and self._kept[-1].detail == event.detail:
                count = self._kept.pop().count + 1
                event = event.model_copy(update={"count": count})
            self._kept.append(event)

    def newest(self) -> list[Event]:
        """Return the warnings, oldest first."""
        with self._guard:
            return list(self._kept)

    def attach(self) -> None:
        """Start listening to the log."""
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)

    def detach(self) -> None:
        """Stop listening to the log."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)


@dataclass(frozen=True)
class Events:
    """Returns the events. Thread-safe."""

    registry: Registry
    folder: DataFolder
    _: KW_ONLY
    step_writer: StepWriter
    options: EngineOptions
    _warnings: Warnings = field(default_factory=Warnings)

    def start(self) -> None:
        """Record the start of this process and its reason, and start listening to the log."""
        self._warnings.attach()
        kind: EventKind = "restarted" if self.options.restarts else "started"
        try:
            self.folder.ledger.events.add(SERVER, kind, self.options.last_death or "")
        except (StorageFull, StorageFailure) as error:
            logger.warning("that the server started is not on disk: %s", error)

    def close(self) -> None:
        """Stop listening to the log."""
        self._warnings.detach()

    def version(self, run: Run) -> int:
        """Return a number that changes whenever the events of a run change."""
        events = self.folder.ledger.events
        stored = events.count(SERVER) + events.count(run.key)
        stored += self.folder.ledger.steps.count_non_finite(run.key)
        stopped = bool(run.diverged) + bool(run.failure)
        return (
            stored
            + len(run.environments)
            + len(run.micro_batch_sizes)
            + stopped
            + self._warnings.seen
        )

    def newest(self, name: str | None = None, *, limit: int = MAX_EVENTS) -> list[Event]:
        """Return the newest events of the server and of a run, or of all; newest first.

        Raises UnknownRun.
        """
        known = self.registry.all() if name is None else [self.registry.get(name)]
        self.step_writer.flush_all(known)
        events = self._stored(SERVER, None, limit) + self._warnings.newest()
        for run in known:
            events += self._of_run(run, limit)
        # The event that stopped a run has no time of its own; it is the run's newest one.
        events.sort(key=lambda event: event.at or time.time(), reverse=True)
        return events[:limit]

    def _of_run(self, run: Run, limit: int) -> list[Event]:
        with self.registry.locked():
            environments, micro_batch_sizes = list(run.environments), dict(run.micro_batch_sizes)
            reasons = (("diverged", run.diverged), ("failed", run.failure))
        derived: list[tuple[EventKind, int, str]] = [
            ("micro_batch_size", step, str(size)) for step, size in micro_batch_sizes.items()
        ]
        derived += [("environment", s.from_step, _environment_text(s)) for s in environments]
        times = self.folder.ledger.steps.times(run.key, [step for _, step, _ in derived])
        events = [
            Event(at=times.get(step), kind=kind, run=run.name, step=step, detail=detail)
            for kind, step, detail in derived
            if step in times
        ]
        events += self._stored(run.key, run.name, limit) + self._non_finite(run, limit)
        return events + [
            Event.model_validate({"at": None, "kind": kind, "run": run.name, "detail": str(reason)})
            for kind, reason in reasons
            if reason
        ]

    def _stored(self, key: int, run: str | None, limit: int) -> list[Event]:
        return [
            Event.model_validate(
                {"at": at, "kind": kind, "run": run, "step": _step(detail), "detail": detail}
            )
            for at, kind, detail in self.folder.ledger.events.newest(key, limit)
            if kind in _SHOWN
        ]

    def _non_finite(self, run: Run, limit: int) -> list[Event]:
        """Return non-finite steps, consecutive ones as one event."""
        events: list[Event] = []
        for step, at in self.folder.ledger.steps.non_finite(run.key, limit):
            newest = events[-1] if events else None
            if newest is not None and newest.step == step + 1:
                events[-1] = newest.model_copy(update={"step": step, "count": newest.count + 1})
            else:
                events.append(Event(at=at, kind="non_finite", run=run.name, step=step))
        return events


def _environment_text(environment: Environment) -> str:
    return (
        f"{environment.device}, {environment.precision}, {environment.threads} threads, "
        f"torch {environment.torch_version}, omega21 {environment.omega21_version}"
    )


def _step(detail: str) -> int | None:
    found = re.match(r"step (\d+)", detail)
    return int(found[1]) if found else None
