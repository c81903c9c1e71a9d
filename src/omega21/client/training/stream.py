"""An event stream fed by a background task."""

import math
import sqlite3
from abc import ABC, abstractmethod
from typing import Final, Self

import anyio
from anyio.abc import TaskGroup

from omega21.client.api.api import Api
from omega21.client.events import Event, LinkLost, LinkRestored
from omega21.client.http.retry import is_link_failure
from omega21.data.failures import storage_failure
from omega21.language import _
from omega21.protocol.errors import OmegaError, OutOfPatience, RunFailed

EVENTS_AHEAD: Final = 256
"""Number of events in the buffer before the background task waits for a slow reader."""


class EventStream(ABC):
    """A finite stream of events; an error of the background task is raised at its end.

    `async with stream: async for event in stream: …`. Leaving the block stops the client; the
    server trains on to its target.

    (It is a context manager and not a generator, since the background task has to end before the
    block does, whichever stops first: PEP 789.)
    """

    def __init__(self, api: Api, *, patience: float) -> None:
        self._api = api
        self._patience = patience
        self._failure: OmegaError | None = None
        self._sending, self._receiving = anyio.create_memory_object_stream[Event](EVENTS_AHEAD)
        self._tasks: TaskGroup | None = None

    @abstractmethod
    async def _produce(self, patient: Api) -> None:
        """Do the work and emit its events by `_emit`; `patient` retries while the link is down."""

    @abstractmethod
    def _hint(self) -> str | None:
        """Return how to continue after the link stayed down; None if it never was up."""

    @property
    def _was_reached(self) -> bool:
        """Whether the server has answered, now or before this stream."""
        return self._api.transport.traffic.answers > 0

    async def _emit(self, event: Event) -> None:
        await self._sending.send(event)

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._receiving.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._receiving.receive()
        except anyio.EndOfStream:
            if self._failure is not None:
                raise self._failure from None
            raise StopAsyncIteration from None

    async def _run(self) -> None:
        patient = self._api.patient(self._patience)
        patient.transport.link.on_change = lambda: self._tell_link(patient)
        try:
            await self._produce(patient)
        except OmegaError as error:
            self._failure = self._with_hint(error)
        except (OSError, sqlite3.Error) as error:
            self._failure = storage_failure(error)
        finally:
            self._sending.close()

    def _tell_link(self, patient: Api) -> None:
        assert self._tasks is not None
        link = patient.transport.link
        lost = LinkLost(link.since, str(link.error)) if link.since is not None else None
        self._tasks.start_soon(self._send_late, lost or LinkRestored())

    async def _send_late(self, event: Event) -> None:
        try:
            await self._sending.send(event)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # it ended during the wait

    def _with_hint(self, error: OmegaError) -> OmegaError:
        """Add the hint how to continue, if that is possible."""
        can_continue = isinstance(error, RunFailed) or is_link_failure(error)
        hint = self._hint() if can_continue else None
        if hint is None:
            return error
        if isinstance(error, RunFailed):
            return RunFailed(error.message, hint=hint)
        return OutOfPatience(
            _("{message}; given up after {seconds} s").format(
                message=error.message, seconds=math.ceil(self._patience)
            ),
            hint=hint,
        )
