"""A training as a stream of events, for a program that waits for the next one."""

import math
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio
from anyio.abc import TaskGroup

from omega21.client.events import Event, LinkLost, LinkRestored
from omega21.client.flow import TrainingFlow
from omega21.client.orders import TrainOrder
from omega21.client.policy import is_link_failure
from omega21.client.pulling import Pull
from omega21.client.unfinished import way_back
from omega21.logs import bound
from omega21.protocol.errors import OmegaError, OutOfPatience, RunFolderConflict

if TYPE_CHECKING:
    from omega21.client.client import AsyncClient

EVENTS_AHEAD: Final = 256
"""Events that wait for a slow reader before the training waits for it."""


class Training:
    """Events of a training, from `Connected` to `Done`; an error is raised where they end.

    `async with training: async for event in training: …`. Leaving the block stops the client's
    part; the server goes on to its target.

    (It is a context manager and not a generator, since what runs beside the reader has to end
    before the block does, whoever stops first: PEP 789.)
    """

    def __init__(
        self,
        client: "AsyncClient",
        order: TrainOrder,
        *,
        workdir: Path | None,
        patience: float,
        pull: Pull = "never",
        finishing_only: bool = False,
    ) -> None:
        self._client = client
        self._order = order
        self._workdir = workdir
        self._patience = patience
        self._pull = pull
        self._finishing_only = finishing_only
        self._failure: OmegaError | None = None
        self._sending, self._receiving = anyio.create_memory_object_stream[Event](EVENTS_AHEAD)
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        patient = self._client.patient(self._patience)
        patient.link.on_change = lambda: self._tell_link(patient)
        flow = TrainingFlow(
            self._client,
            self._order,
            workdir=self._workdir,
            pull=self._pull,
            finishing_only=self._finishing_only,
            emit=self._sending.send,
        )
        try:
            with bound(run=self._order.run):
                await flow.run(patient)
        except OmegaError as error:
            self._failure = self._with_way_back(error)
        except (OSError, sqlite3.Error) as error:
            self._failure = RunFolderConflict(
                f"the run folder cannot be written: {error}", hint="make room on the disk"
            )
        finally:
            self._sending.close()

    def _tell_link(self, patient: "AsyncClient") -> None:
        assert self._tasks is not None
        link = patient.link
        lost = LinkLost(link.since, str(link.error)) if link.since is not None else None
        self._tasks.start_soon(self._send_late, lost or LinkRestored())

    async def _send_late(self, event: Event) -> None:
        try:
            await self._sending.send(event)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # the training ended while this waited

    def _with_way_back(self, error: OmegaError) -> OmegaError:
        """Say how to go on, where the run may go on."""
        was_reached = self._client.server_id is not None or self._finishing_only
        if not was_reached or not is_link_failure(error):
            return error
        return OutOfPatience(
            f"{error.message}; given up after {math.ceil(self._patience)} s",
            hint=f"nothing is lost; go on with: {way_back(self._order.run, self._workdir)} "
            "(and --url URL where its address has changed)",
        )
