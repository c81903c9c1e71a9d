"""The same client for programs without an event loop: one runs in a background thread.

Each method hands its arguments to the method of that name of `AsyncClient`, whose docstring says
what it does, what it raises and what is on disk when it returns.
"""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import numpy as np
from anyio.from_thread import start_blocking_portal
from numpy.typing import NDArray

from omega21.client.client import AsyncClient
from omega21.client.events import Event
from omega21.client.http.transport import TIMEOUT_SECONDS, Link
from omega21.client.http.usage import Traffic
from omega21.client.inference import Prediction
from omega21.client.loggers import LoggerChoice
from omega21.client.store.checkpoints import HeldCheckpoint
from omega21.client.store.summary import Evaluation, Summary
from omega21.client.training.checkpoint_download import Pull
from omega21.client.training.request import TrainRequest
from omega21.client.training.stream import EventStream
from omega21.client.verify import Verified
from omega21.client.weights import SavedWeights
from omega21.data.samples import Samples
from omega21.protocol.checkpoints import CheckpointStored, RestoreCheckpoint
from omega21.protocol.evaluations import EvaluationRow
from omega21.protocol.legacy import (
    Diagnosis,
    FeedbackReceived,
    Health,
    Info,
    Metrics,
    Status,
    Trained,
)
from omega21.protocol.logs import LogLines
from omega21.protocol.names import DEFAULT_RUN
from omega21.protocol.plan import Plan, SamplesType, Segment, SegmentStored
from omega21.protocol.runs import RunConfig, RunRemoved, RunState, RunSummary
from omega21.protocol.shards import ShardStored
from omega21.protocol.steps import MAX_ROWS, StepRecord, StepsReply

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Client:
    """One server, asked synchronously; use it in a `with` block, or call `close`.

    Methods may be called from any thread, each call waits for its own reply.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        proof_needed: bool = False,
        timeout: float = TIMEOUT_SECONDS,
        attempts: int = 5,
        ca: Path | None = None,
        on_connect: Callable[[Info], None] | None = None,
    ) -> None:
        self._client = AsyncClient(
            address,
            token=token,
            proof_needed=proof_needed,
            timeout=timeout,
            attempts=attempts,
            ca=ca,
            on_connect=on_connect,
        )
        self._held = ExitStack()
        self._portal = self._held.enter_context(start_blocking_portal("asyncio"))
        self._held.callback(self._portal.call, self._client.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the background thread; runs on the server go on."""
        self._held.close()

    @property
    def address(self) -> str:
        """Where the server is."""
        return self._client.address

    @property
    def server_id(self) -> str | None:
        """Which server it is, once connected."""
        return self._client.server_id

    @property
    def sends_token(self) -> bool:
        """See `AsyncClient.sends_token`."""
        return self._client.sends_token

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._client.traffic

    @property
    def link(self) -> Link:
        """Whether the server is reached."""
        return self._client.link

    def connect(self) -> Info:
        """See `AsyncClient.connect`."""
        return self._call(self._client.connect)

    def health(self) -> Health:
        """See `AsyncClient.health`."""
        return self._call(self._client.health)

    def info(self, run: str = DEFAULT_RUN) -> Info:
        """See `AsyncClient.info`."""
        return self._call(self._client.info, run)

    def status(self, run: str = DEFAULT_RUN) -> Status:
        """See `AsyncClient.status`."""
        return self._call(self._client.status, run)

    def metrics(self, run: str = DEFAULT_RUN) -> Metrics:
        """See `AsyncClient.metrics`."""
        return self._call(self._client.metrics, run)

    def diagnose(self, run: str = DEFAULT_RUN) -> Diagnosis:
        """See `AsyncClient.diagnose`."""
        return self._call(self._client.diagnose, run)

    def logs(self, lines: int = 1000) -> LogLines:
        """See `AsyncClient.logs`."""
        return self._call(self._client.logs, lines)

    def train_batch(
        self, samples: Samples, *, run: str = DEFAULT_RUN, epochs: int = 1, key: str | None = None
    ) -> Trained:
        """See `AsyncClient.train_batch`."""
        return self._call(self._client.train_batch, samples, run=run, epochs=epochs, key=key)

    def feedback(
        self,
        adjustments: Sequence[float],
        *,
        validated: bool,
        run: str = DEFAULT_RUN,
        key: str | None = None,
    ) -> FeedbackReceived:
        """See `AsyncClient.feedback`."""
        return self._call(self._client.feedback, adjustments, validated=validated, run=run, key=key)

    def create_run(
        self, run: str, *, run_id: str | None = None, config: RunConfig | None = None
    ) -> RunState:
        """See `AsyncClient.create_run`."""
        return self._call(self._client.create_run, run, run_id=run_id, config=config)

    def run_state(self, run: str) -> RunState:
        """See `AsyncClient.run_state`."""
        return self._call(self._client.run_state, run)

    def runs(self) -> tuple[RunSummary, ...]:
        """See `AsyncClient.runs`."""
        return self._call(self._client.runs)

    def remove_run(self, run: str, *, run_id: str | None = None) -> RunRemoved:
        """See `AsyncClient.remove_run`."""
        return self._call(self._client.remove_run, run, run_id=run_id)

    def pause(self, run: str) -> RunSummary:
        """See `AsyncClient.pause`."""
        return self._call(self._client.pause, run)

    def resume(self, run: str) -> RunSummary:
        """See `AsyncClient.resume`."""
        return self._call(self._client.resume, run)

    def plan(self, run: str) -> Plan:
        """See `AsyncClient.plan`."""
        return self._call(self._client.plan, run)

    def put_segment(self, run: str, number: int, *, run_id: str, segment: Segment) -> SegmentStored:
        """See `AsyncClient.put_segment`."""
        return self._call(self._client.put_segment, run, number, run_id=run_id, segment=segment)

    def advance(self, run: str, *, run_id: str, to: int) -> RunSummary:
        """See `AsyncClient.advance`."""
        return self._call(self._client.advance, run, run_id=run_id, to=to)

    def steps(
        self,
        run: str,
        *,
        after: int = 0,
        wait: float = 0.0,
        gather: float = 0.0,
        limit: int = MAX_ROWS,
        vectors: bool = False,
    ) -> StepsReply:
        """See `AsyncClient.steps`."""
        return self._call(
            self._client.steps,
            run,
            after=after,
            wait=wait,
            gather=gather,
            limit=limit,
            vectors=vectors,
        )

    def history(self, run: str, *, after: int = 0) -> Iterator[StepRecord]:
        """See `AsyncClient.history`."""
        rows = self._client.history(run, after=after)
        try:
            while (row := self._call(_next, rows)) is not None:
                yield row
        finally:
            self._call(rows.aclose)

    def put_shard(self, sha256: str, body: bytes) -> ShardStored:
        """See `AsyncClient.put_shard`."""
        return self._call(self._client.put_shard, sha256, body)

    def missing_shards(self, shards: Sequence[str]) -> list[str]:
        """See `AsyncClient.missing_shards`."""
        return self._call(self._client.missing_shards, shards)

    def predict(self, run: str, x: NDArray[np.float32]) -> Prediction:
        """See `AsyncClient.predict`."""
        return self._call(self._client.predict, run, x)

    def evaluate(
        self,
        run: str,
        samples: Samples | Iterable[Samples],
        *,
        samples_type: SamplesType = "float32",
    ) -> Evaluation:
        """See `AsyncClient.evaluate`."""
        return self._call(self._client.evaluate, run, samples, samples_type=samples_type)

    def record_evaluation(self, run: str, evaluation: Evaluation, *, run_id: str) -> EvaluationRow:
        """See `AsyncClient.record_evaluation`."""
        return self._call(self._client.record_evaluation, run, evaluation, run_id=run_id)

    def evaluations(self, run: str, *, after: int = 0) -> tuple[EvaluationRow, ...]:
        """See `AsyncClient.evaluations`."""
        return self._call(self._client.evaluations, run, after=after)

    def download_weights(self, run: str, path: Path) -> SavedWeights:
        """See `AsyncClient.download_weights`."""
        return self._call(self._client.download_weights, run, path)

    def pull_checkpoint(self, run: str, folder: Path) -> HeldCheckpoint:
        """See `AsyncClient.pull_checkpoint`."""
        return self._call(self._client.pull_checkpoint, run, folder)

    def put_upload_part(self, run: str, sha256: str, piece: bytes) -> CheckpointStored:
        """See `AsyncClient.put_upload_part`."""
        return self._call(self._client.put_upload_part, run, sha256, piece)

    def restore_checkpoint(self, run: str, request: RestoreCheckpoint) -> RunState:
        """See `AsyncClient.restore_checkpoint`."""
        return self._call(self._client.restore_checkpoint, run, request)

    def train(
        self,
        order: TrainRequest,
        *,
        workdir: Path | None = None,
        patience: float = 600.0,
        pull: Pull = "never",
        loggers: Sequence[LoggerChoice] = (),
    ) -> Generator[Event, None, None]:
        """Yield the events of a training; see `AsyncClient.train`.

        The last one is `Done`. Closing the generator, or an exception in the loop over it, stops
        the client's part and lets go of the run folder; the server goes on to its target.
        """
        training = self._client.train(
            order, workdir=workdir, patience=patience, pull=pull, loggers=loggers
        )
        yield from self._events(training)

    def finish(
        self,
        run: str,
        *,
        workdir: Path | None = None,
        patience: float = 600.0,
        pull: Pull = "never",
        loggers: Sequence[LoggerChoice] = (),
    ) -> Generator[Event, None, None]:
        """Finish what was begun of a run, from its folder alone, yielding events as `train`.

        Onto a server that does not have the run, it is restored from the folder's checkpoint, or
        computed again from its first step, whichever is the shorter way. Raises RunFolderConflict
        when there is nothing to finish.
        """
        training = self._client.finish(
            run, workdir=workdir, patience=patience, pull=pull, loggers=loggers
        )
        yield from self._events(training)

    def watch(
        self, run: str, *, workdir: Path | None = None, patience: float = 600.0
    ) -> Generator[Event, None, None]:
        """Yield the events of a run that another program trains; see `AsyncClient.watch`."""
        watching = self._client.watch(run, workdir=workdir, patience=patience)
        yield from self._events(watching)

    def _events(self, training: EventStream) -> Generator[Event, None, None]:
        with self._portal.wrap_async_context_manager(training) as events:
            while (event := self._call(_next, events)) is not None:
                yield event

    def verify(
        self,
        run: str,
        *,
        workdir: Path | None = None,
        from_step: int = 1,
        tell: Callable[[str], None] | None = None,
    ) -> Verified:
        """See `AsyncClient.verify`."""
        return self._call(self._client.verify, run, workdir=workdir, from_step=from_step, tell=tell)

    def summary(self, run: str) -> Summary:
        """See `AsyncClient.summary`."""
        return self._call(self._client.summary, run)

    def _call(
        self, function: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        return self._portal.call(partial(function, *args, **kwargs))


async def _next(items: AsyncIterator[_T]) -> _T | None:
    return await anext(items, None)
