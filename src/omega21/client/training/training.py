"""A training as a stream of events."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omega21.client.loggers import LoggerChoice
from omega21.client.training.checkpoint_download import Pull
from omega21.client.training.request import TrainRequest
from omega21.client.training.resume import resume_command
from omega21.client.training.session import TrainingFlow
from omega21.client.training.stream import EventStream
from omega21.language import _
from omega21.logs import log_context

if TYPE_CHECKING:
    from omega21.client.client import AsyncClient


class Training(EventStream):
    """Events of a training, from `Connected` to `Done`; see `EventStream`."""

    def __init__(
        self,
        client: "AsyncClient",
        order: TrainRequest,
        *,
        workdir: Path | None,
        patience: float,
        pull: Pull = "never",
        finishing_only: bool = False,
        loggers: Sequence[LoggerChoice] = (),
    ) -> None:
        super().__init__(client, patience=patience)
        self._order = order
        self._workdir = workdir
        self._pull = pull
        self._finishing_only = finishing_only
        self._loggers = loggers

    async def _produce(self, patient: "AsyncClient") -> None:
        flow = TrainingFlow(
            self._client,
            self._order,
            workdir=self._workdir,
            pull=self._pull,
            finishing_only=self._finishing_only,
            loggers=self._loggers,
            emit=self._emit,
        )
        with log_context(run=self._order.run):
            await flow.run(patient, first=self._client.hurried(self._patience))

    def _hint(self) -> str | None:
        was_reached = self._client.server_id is not None or self._finishing_only
        if not was_reached:
            return None
        return _(
            "nothing is lost; go on with: {command} (and --url URL where its address has changed)"
        ).format(command=resume_command(self._order.run, self._workdir))
