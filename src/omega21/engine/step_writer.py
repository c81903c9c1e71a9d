"""Writes step records in groups from memory to the ledger; each is always in one of them."""

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
    """Writes the pending records of runs. Thread-safe."""

    def __init__(self, registry: Registry, ledger: Ledger) -> None:
        self._registry = registry
        self._ledger = ledger
        self._writing = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="omega21-step-writer")
        self._begun: Future[None] | None = None

    def begin_flush(self, runs: Sequence[Run]) -> None:
        """Start writing the pending records of `runs` in the background.

        Does nothing while the last such write is in progress; raises what that one raised.
        """
        if self._begun is not None:
            if not self._begun.done():
                return
            self._begun.result()
        self._begun = self._thread.submit(self.flush_all, runs)

    def finish(self) -> None:
        """Wait for the write in progress, and start no more."""
        self._thread.shutdown()

    def flush(self, run: Run) -> None:
        """Write a run's pending records. Raises StorageFull; they stay pending then."""
        with self._writing:
            records = list(run.pending)
            if not records:
                return
            if not run.removed:
                self._ledger.steps.add(run.key, records)
            # Removed only now: a reader looks here first, then in the ledger.
            with self._registry.locked():
                del run.pending[: len(records)]

    def flush_all(self, runs: Iterable[Run]) -> None:
        """Write the pending records of all runs; those that cannot be written stay pending."""
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
