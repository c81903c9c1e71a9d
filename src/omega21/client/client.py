"""The client: train, resume, watch, verify, predict, evaluate on a server.

The HTTP calls are in `AsyncClient.api`, by noun. Each method says what is on disk when it returns;
a method that says nothing changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import httpx
from pydantic import JsonValue

from omega21.client.api.api import Api
from omega21.client.http.link import Link
from omega21.client.http.retry import RetryRules
from omega21.client.http.transport import TIMEOUT_SECONDS, Transport
from omega21.client.http.usage import Traffic
from omega21.client.inference import Prediction, predict, score
from omega21.client.remote_summary import remote_summary
from omega21.client.request.model import with_model
from omega21.client.request.request import TrainRequest
from omega21.client.store.checkpoints import HeldCheckpoint
from omega21.client.store.run_folder import fresh_run_name
from omega21.client.store.summary import Summary
from omega21.client.training.checkpoint_download import pull_checkpoint
from omega21.client.training.options import TrainOptions
from omega21.client.training.resume import unfinished_request
from omega21.client.training.session import Training
from omega21.client.verify import Verification, Verified
from omega21.client.watch import Watching
from omega21.client.weights import SavedWeights, download_weights
from omega21.data.samples import Samples, as_samples
from omega21.models.registry import value_check
from omega21.protocol.evaluations import Evaluation
from omega21.protocol.legacy import Diagnosis, FeedbackReceived, Info, Metrics, Status, Trained
from omega21.protocol.logs import LogLines
from omega21.protocol.names import DEFAULT_RUN, checked_name
from omega21.protocol.plan import SamplesType
from omega21.protocol.runs import RunRemoved, RunSummary

_DEFAULT: Final = TrainOptions()


class AsyncClient:
    """The client of one server, for asyncio or trio.

    `address` is the server's, `token` the one that it printed at its start, `ca` a PEM file of
    certificate authorities to trust besides the default ones. A request fails after `timeout`
    seconds without a byte; a temporary failure is retried, up to `attempts` times in all.
    `on_connect` is called by `connect`, with the server's description of itself. Raises
    InvalidAddress, also for a token that would be sent unencrypted over a network.

    With `proof_needed` the token is sent only after the server has proven that it knows the token,
    which takes one more request; a server that does not is Unauthorized.
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.server_id: str | None = None
        self._on_connect = on_connect
        over = Transport(
            address,
            token=token,
            proof_needed=proof_needed,
            timeout=timeout,
            rules=RetryRules(attempts=attempts),
            ca=ca,
            transport=transport,
        )
        self.api = Api(over, on_connect=self._note_server)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; runs on the server continue."""
        await self.api.transport.aclose()

    @property
    def address(self) -> str:
        """The server's address."""
        return self.api.address

    @property
    def sends_token(self) -> bool:
        """Whether requests have the token: not before a required proof."""
        return self.api.transport.sends_token

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self.api.transport.traffic

    @property
    def link(self) -> Link:
        """The state of the link to the server."""
        return self.api.transport.link

    # --- the server -------------------------------------------------------------------------------

    async def connect(self) -> Info:
        """Request the server's identity, and check that both have the same protocol version.

        Raises OtherVersion, NotOmega21, Unauthorized, Unreachable.
        """
        return await self.api.connect()

    async def info(self, run: str = DEFAULT_RUN) -> Info:
        """Return the model's architecture, and the server's version and identity."""
        return await self.api.legacy.info(run)

    async def status(self, run: str = DEFAULT_RUN) -> Status:
        """Return the state and the statistics of a run, and this month's traffic."""
        return await self.api.legacy.status(run)

    async def metrics(self, run: str = DEFAULT_RUN) -> Metrics:
        """Return a run's recent losses and their trend."""
        return await self.api.legacy.metrics(run)

    async def diagnose(self, run: str = DEFAULT_RUN) -> Diagnosis:
        """Run the server's self-test on its device; no run is changed."""
        return await self.api.legacy.diagnose(run)

    async def logs(self, lines: int = 1000) -> LogLines:
        """Return the newest lines of the server's log, each a JSON object, oldest first."""
        return await self.api.server.logs(lines)

    # --- runs -------------------------------------------------------------------------------------

    async def runs(self) -> tuple[RunSummary, ...]:
        """Return the server's runs, by name."""
        return await self.api.runs.all()

    async def pause(self, run: str) -> RunSummary:
        """Pause a run after the current step; on the server's disk when it returns."""
        return await self.api.runs.pause(run)

    async def unpause(self, run: str) -> RunSummary:
        """Resume a paused run; on the server's disk when it returns."""
        return await self.api.runs.unpause(run)

    async def remove(self, run: str, *, run_id: str | None = None) -> RunRemoved:
        """Remove a run from the server, on disk when it returns; see `api.runs.remove`."""
        return await self.api.runs.remove(run, run_id=run_id)

    async def summary(self, run: str) -> Summary:
        """Return the summary of a run's last segment, from the server's results.

        Its samples are evaluated by `evaluate` and `train` only. Raises UnknownSegment when the
        run has no plan or that segment has no results.
        """
        return await remote_summary(self.api, run)

    # --- training ---------------------------------------------------------------------------------

    def train(
        self,
        /,
        request: TrainRequest | None = None,
        options: TrainOptions = _DEFAULT,
        *,
        model: str | None = None,
        model_options: Mapping[str, JsonValue] | None = None,
        **fields: Any,
    ) -> Training:
        """Train a segment of a run, with retries and recovery.

        Use it as `async with client.train(request) as events: async for event in events: …`.
        Instead of a request, or over it, its fields may be given, such as `data={"x": x, "y": y}`;
        without a `run` a new one is named. `model` is the user's own, `net.py:build`, and
        `model_options` what that function gets; for more see `request.model.with_model`.

        Samples and plan are in the run folder before they are sent, and results before they are
        yielded.
        """
        if request is None:
            request = TrainRequest(**{"run": fresh_run_name(), **fields})
        elif fields:
            request = replace(request, **fields)
        if model is not None:
            request = with_model(request, model, options=model_options)
        return Training(self.api, request, options)

    def resume(self, run: str, options: TrainOptions = _DEFAULT) -> Training:
        """Finish an unfinished run, from its folder alone; otherwise like `train`.

        On a server that does not have the run, it is restored from the folder's checkpoint, or
        computed again from its first step, whichever takes less time. Raises RunFolderConflict
        when there is nothing to finish.
        """
        request = unfinished_request(checked_name(run), options.workdir)
        return Training(self.api, request, options, finishing_only=True)

    def watch(self, run: str, *, workdir: Path | None = None, patience: float = 600.0) -> Watching:
        """Watch a run that another program trains, without changing it.

        Use it as `train`. Earlier results come first, from the run's folder if this machine has
        it, else the newest ones of the server. Raises UnknownRun, and Diverged or RunFailed
        where the run stopped for good.
        """
        return Watching(self.api, checked_name(run), workdir=workdir, patience=patience)

    async def verify(
        self,
        run: str,
        *,
        workdir: Path | None = None,
        from_step: int = 1,
        tell: Callable[[str], None] | None = None,
    ) -> Verified:
        """Execute a run of this machine again, under another name, and compare every result.

        From its first step, or with `from_step` from the folder's checkpoint, where that is of an
        earlier step. The other run is removed at the end. `tell` is called with progress
        messages, in the event loop's thread. Raises NotReproduced, naming the first
        step that differs.
        """
        return await Verification(
            self.api, checked_name(run), workdir=workdir, from_step=from_step, tell=tell
        ).run()

    # --- one batch, inference, weights ------------------------------------------------------------

    async def train_batch(
        self, samples: Samples, *, run: str = DEFAULT_RUN, epochs: int = 1, key: str | None = None
    ) -> Trained:
        """Train one batch at the end of a run's plan; see `api.legacy.train_batch`."""
        return await self.api.legacy.train_batch(samples, run=run, epochs=epochs, key=key)

    async def feedback(
        self,
        adjustments: Sequence[float],
        *,
        validated: bool,
        run: str = DEFAULT_RUN,
        key: str | None = None,
    ) -> FeedbackReceived:
        """Record adjustments, and whether they proved right; see `api.legacy.feedback`."""
        return await self.api.legacy.feedback(adjustments, validated=validated, run=run, key=key)

    async def predict(self, run: str, inputs: Any) -> Prediction:
        """Compute what the run's task predicts, all with the weights of one step.

        `inputs` is a map with an array [n, …] for each input of the run's schema, or the array of
        its one input.
        """
        return await predict(self.api, checked_name(run), inputs=inputs)

    async def evaluate(
        self,
        run: str,
        samples: Any,
        *,
        samples_type: SamplesType = "float32",
    ) -> Evaluation:
        """Evaluate labelled samples, all with the weights of one step.

        `samples` are a map of arrays, a tuple (x, y), or several of these, one after another. They
        are uploaded as `samples_type`; as float16 float32 inputs need half the bytes, rounded.
        """
        name = checked_name(run)
        config = (await self.api.runs.state(name)).config
        schema, check = config.sample_schema, value_check(config.task)
        blocks = [samples] if isinstance(samples, tuple | Mapping) else samples
        scored = await score(
            self.api,
            name,
            blocks=(as_samples(block, schema, check=check) for block in blocks),
            schema=schema,
            samples_type=samples_type,
        )
        return scored.evaluation

    async def download_weights(self, run: str, path: Path) -> SavedWeights:
        """Save a run's weights as a safetensors file; checked and on disk when it returns."""
        return await download_weights(self.api, checked_name(run), path=path)

    async def pull_checkpoint(self, run: str, folder: Path) -> HeldCheckpoint:
        """Download a run's newest checkpoint into `folder`, in ranges where the link breaks.

        Checked and on disk when it returns; older ones there are removed. Raises UnknownCheckpoint,
        InvalidCheckpoint.
        """
        return await pull_checkpoint(self.api, checked_name(run), folder=folder)

    def _note_server(self, info: Info) -> None:
        self.server_id = info.server_id
        if self._on_connect is not None:
            self._on_connect(info)
