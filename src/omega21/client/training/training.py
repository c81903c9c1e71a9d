"""A training as an event stream."""

from omega21.client.api.api import Api
from omega21.client.training.options import TrainOptions
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
        request: TrainRequest,
        options: TrainOptions,
        *,
        finishing_only: bool = False,
    ) -> None:
        super().__init__(api, patience=options.patience)
        self._request = request
        self._options = options
        self._finishing_only = finishing_only

    async def _produce(self, patient: Api) -> None:
        flow = TrainingFlow(
            self._api,
            self._request,
            self._options,
            finishing_only=self._finishing_only,
            emit=self._emit,
        )
        with log_context(run=self._request.run):
            await flow.run(patient, first=self._api.hurried(self._patience))

    def _hint(self) -> str | None:
        if not (self._was_reached or self._finishing_only):
            return None
        return _(
            "nothing is lost; continue with: {command} (and --url URL if its address has changed)"
        ).format(command=resume_command(self._request.run, self._options.workdir))
