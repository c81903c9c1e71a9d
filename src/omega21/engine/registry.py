"""The runs of an engine by name, the lock that guards them, and who is told of changes."""

import threading
from collections.abc import Callable
from typing import Protocol

from omega21.engine.run import Run
from omega21.engine.storage.ledger import Ledger
from omega21.language import _
from omega21.protocol.errors import OtherRun, RunDeleted, UnknownRun


class Listener(Protocol):
    """Is told that a run changed; by `step` alone, where that is not None."""

    def __call__(self, run: str, step: int | None = None, /) -> object:
        """Take note, and return at once."""


class Registry:
    """Finds runs. `changed` is the condition whose lock guards all of them."""

    def __init__(self, ledger: Ledger) -> None:
        self.runs: dict[str, Run] = {}
        self.changed = threading.Condition()
        self._ledger = ledger
        self._callbacks: tuple[Listener, ...] = ()

    def get(self, name: str, run_id: str | None = None) -> Run:
        """Find a run, of this id where one is given. Raises UnknownRun, RunDeleted, OtherRun."""
        with self.changed:
            run = self.runs.get(name)
            if run is not None and run_id in (None, run.id):
                return run
            if run_id is not None and self._ledger.is_dead(run_id):
                raise RunDeleted(_("the run with id {run_id} was removed").format(run_id=run_id))
            if run is None:
                raise UnknownRun(_("no run {name!r} on this server").format(name=name))
            raise OtherRun(
                _("run {name!r} has id {id} here, not {run_id}").format(
                    name=name, id=run.id, run_id=run_id
                )
            )

    def pinned_shards(self) -> set[str]:
        """Return the shards that some run still needs."""
        with self.changed:
            return set[str]().union(*(run.pinned_shards() for run in self.runs.values()))

    def subscribe(self, callback: Listener) -> Callable[[], None]:
        """Have `callback` called, from any thread, when a run has results or changes.

        Returns the function that ends the subscription.
        """
        with self.changed:
            self._callbacks = (*self._callbacks, callback)

        def unsubscribe() -> None:
            with self.changed:
                self._callbacks = tuple(c for c in self._callbacks if c is not callback)

        return unsubscribe

    def notify(self, name: str, step: int | None = None) -> None:
        """Tell the listeners that a run changed, by that step alone or otherwise."""
        for callback in self._callbacks:
            callback(name, step)

    def wake(self, name: str) -> None:
        """Tell the worker and the listeners that a run changed; the lock is held."""
        self.changed.notify_all()
        self.notify(name)
