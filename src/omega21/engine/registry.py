"""The runs of an engine by name, the lock that guards them, and the listeners to changes."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from omega21.engine.run import Run
from omega21.engine.storage.ledger import Ledger
from omega21.language import _
from omega21.protocol.errors import OtherRun, RunDeleted, UnknownRun


class Listener(Protocol):
    """Called when a run has changed; if `step` is not None, only by that step."""

    def __call__(self, run: str, step: int | None = None, /) -> object:
        """Handle the change; returns at once."""


class Registry:
    """The runs. One re-entrant lock guards all of them; `wait` releases it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._runs: dict[str, Run] = {}
        self._changed = threading.Condition()
        self._listeners: tuple[Listener, ...] = ()

    # --- the lock ---

    def locked(self) -> AbstractContextManager[object]:
        """Hold the lock of all runs."""
        return self._changed

    def wait(self, seconds: float | None) -> None:
        """Wait until `wake` is called, or for `seconds`; the caller holds the lock."""
        self._changed.wait(seconds)

    def wake(self) -> None:
        """Wake the waiting thread."""
        with self._changed:
            self._changed.notify_all()

    # --- the runs ---

    def all(self) -> list[Run]:
        """Return the runs in the order of their creation."""
        with self._changed:
            return list(self._runs.values())

    def find(self, name: str) -> Run | None:
        """Return the run of this name, if there is one."""
        with self._changed:
            return self._runs.get(name)

    def get(self, name: str, run_id: str | None = None) -> Run:
        """Return a run, of this id where one is given. Raises UnknownRun, RunDeleted, OtherRun."""
        with self._changed:
            run = self._runs.get(name)
            if run is not None and run_id in (None, run.id):
                return run
            if run_id is not None:
                self.check_not_removed(run_id)
            if run is None:
                raise UnknownRun(_("no run {name!r} on this server").format(name=name))
            raise OtherRun(
                _("run {name!r} has id {id} on this server, not {run_id}").format(
                    name=name, id=run.id, run_id=run_id
                )
            )

    def check_not_removed(self, run_id: str) -> None:
        """Raise RunDeleted when a run of this id was removed."""
        if self._ledger.runs.is_dead(run_id):
            raise RunDeleted(_("the run with id {run_id} was removed").format(run_id=run_id))

    def add(self, run: Run) -> None:
        """Add a run."""
        with self._changed:
            self._runs[run.name] = run

    def remove(self, run: Run) -> None:
        """Remove a run."""
        with self._changed:
            del self._runs[run.name]
            run.removed = True

    def pinned_shards(self) -> set[str]:
        """Return the shards that any run still needs."""
        with self._changed:
            return set[str]().union(*(run.pinned_shards() for run in self._runs.values()))

    # --- listeners ---

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener`, from any thread, when a run has new records or has changed.

        Returns the function that ends the subscription.
        """
        with self._changed:
            self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            with self._changed:
                self._listeners = tuple(known for known in self._listeners if known is not listener)

        return unsubscribe

    def notify(self, name: str, step: int | None = None) -> None:
        """Tell the listeners that a run has changed, only by `step` if it is given."""
        for listener in self._listeners:
            listener(name, step)

    def changed(self, name: str) -> None:
        """Wake the worker and tell the listeners that a run has changed."""
        self.wake()
        self.notify(name)
