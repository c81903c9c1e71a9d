"""A training as a stream of events."""

from collections.abc import Sequence
from pathlib import Path

from omega21.client.api.api import Api
from omega21.client.loggers import LoggerChoice
from omega21.client.training.checkpoint_download import Pull
from omega21.client.training.request import TrainRequest
from omega21.client.training.resume import resume_command
from omega21.client.training.session import TrainingFlow
from omega21.client.training.stream import EventStream
from omega21.language import _
from omega21.logs import log_context


class Training(EventStream):
    """Events of a training, from `Connected` to `Done`; see `EventStream`."""

    def __init__(
        self,
        api: Api,
        order: TrainRequest,
        *,
        workdir: Path | None,
        patience: float,
        pull: Pull = "never",
        finishing_only: bool = False,
        loggers: Sequence[LoggerChoice] = (),
    ) -> None:
        super().__init__(api, patience=patience)
        self._order = order
        self._workdir = workdir
        self._pull = pull
        self._finishing_only = finishing_only
        self._loggers = loggers

    async def _produce(self, patient: Api) -> None:
        flow = TrainingFlow(
            self._api,
            self._order,
            workdir=self._workdir,
            pull=self._pull,
            finishing_only=self._finishing_only,
            loggers=self._loggers,
            emit=self._emit,
        )
        with log_context(run=self._order.run):
            await flow.run(patient, first=self._api.hurried(self._patience))

    def _hint(self) -> str | None:
        if not (self._was_reached or self._finishing_only):
            return None
        return _(
            "nothing is lost; continue with: {command} (and --url URL if its address has changed)"
        ).format(command=resume_command(self._order.run, self._workdir))
