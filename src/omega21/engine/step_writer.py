"""Writes results in groups, from memory to the ledger; at no moment is one in neither."""

import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from omega21.engine.run import Run
from omega21.engine.storage.ledger import Ledger
from omega21.protocol.errors import StorageFailure, StorageFull

logger = logging.getLogger(__name__)


class ResultWriter:
    """Flushes runs' waiting results. Thread-safe; `changed` guards the runs."""

    def __init__(self, *, ledger: Ledger, changed: threading.Condition) -> None:
        self._ledger = ledger
        self._changed = changed
        self._writing = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="omega21-results")
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
        """Write a run's waiting results. Raises StorageFull, and keeps them then."""
        with self._writing:
            rows = list(run.pending)
            if not rows:
                return
            if not run.removed:
                self._ledger.add_results(run.key, rows)
            # Removed only now: a reader looks here first and in the ledger after.
            with self._changed:
                del run.pending[: len(rows)]

    def flush_all(self, runs: Iterable[Run]) -> None:
        """Write what can be written; what cannot waits."""
        for run in runs:
            try:
                self.flush(run)
            except (StorageFull, StorageFailure) as error:
                logger.warning(
                    "results of run %s wait for the disk: %s",
                    run.name,
                    error,
                    extra={"run": run.name},
                )
