"""Thread pools for blocking calls, so that many calls of one kind do not delay the others."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio
from anyio.to_thread import run_sync

from omega21.language import _
from omega21.protocol.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    """A bounded number of threads with a bounded queue.

    A call beyond both is refused, since each waiting call has its request's body in memory. `name`
    is a message that names its calls.
    """

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self._name = name
        self._waiting = waiting
        self._limiter = anyio.CapacityLimiter(threads)

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in one of the pool's threads.

        Raises Overloaded when the queue is full.
        """
        self.check_room()
        return await run_sync(lambda: call(*args, **kwargs), limiter=self._limiter)

    def check_room(self) -> None:
        """Raise Overloaded when the queue is full: useful before a body is read."""
        if self._limiter.statistics().tasks_waiting >= self._waiting:
            message = _("too many {name} at once").format(name=_(self._name))
            raise Overloaded(message, retry_after=1)
