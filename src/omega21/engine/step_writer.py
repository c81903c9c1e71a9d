"""Writes step records in groups, from memory to the ledger; at no moment is one in neither."""

import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from omega21.engine.registry import Registry
from omega21.engine.run import Run
from omega21.engine.storage.ledger import Ledger
from omega21.protocol.errors import StorageFailure, StorageFull

logger = logging.getLogger(__name__)


class StepWriter:
    """Flushes the records that wait in runs. Thread-safe."""

    def __init__(self, registry: Registry, ledger: Ledger) -> None:
        self._registry = registry
        self._ledger = ledger
        self._writing = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="omega21-step-writer")
        self._begun: Future[None] | None = None

    def begin_flush(self, runs: Sequence[Run]) -> None:
        """Have what can be written of `runs` written beside whatever else is done.

        Does nothing while the last such writing is under way; raises what that one raised.
        """
        if self._begun is not None:
            if not self._begun.done():
                return
            self._begun.result()
        self._begun = self._thread.submit(self.flush_all, runs)

    def finish(self) -> None:
        """Wait for what was begun, and begin no more."""
        self._thread.shutdown()

    def flush(self, run: Run) -> None:
        """Write a run's waiting records. Raises StorageFull, and keeps them then."""
        with self._writing:
            records = list(run.pending)
            if not records:
                return
            if not run.removed:
                self._ledger.add_results(run.key, records)
            # Removed only now: a reader looks here first and in the ledger after.
            with self._registry.locked():
                del run.pending[: len(records)]

    def flush_all(self, runs: Iterable[Run]) -> None:
        """Write what can be written; what cannot waits."""
        for run in runs:
            try:
                self.flush(run)
            except (StorageFull, StorageFailure) as error:
                logger.warning(
                    "step records of run %s wait for the disk: %s",
                    run.name,
                    error,
                    extra={"run": run.name},
                )
