"""The calls of a server, one method each: arguments in, frozen messages out, OmegaError raised.

Every call may be sent again: reads by nature, writes because they name what they want (a shard by
its content, a segment by its number, a target) or carry an Idempotency-Key. What is on the server's
disk when a call returns is said by each method; where nothing is said, the call changes nothing.
"""

import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from copy import copy
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from omega21.client.http.address import check_encrypted, parse_address
from omega21.client.http.retry import RetryRules
from omega21.client.http.transport import (
    TIMEOUT_SECONDS,
    Link,
    Request,
    Response,
    Transport,
)
from omega21.client.http.usage import Traffic, joined
from omega21.client.inference import MAX_OUTPUT_BYTES, Prediction, predict, score
from omega21.client.loggers import LoggerChoice
from omega21.client.store.checkpoints import HeldCheckpoint
from omega21.client.store.summary import Evaluation, Summary, summarise
from omega21.client.training.checkpoint_download import Pull, pull_checkpoint
from omega21.client.training.provenance import changed_at
from omega21.client.training.request import TrainRequest
from omega21.client.training.resume import unfinished_request
from omega21.client.training.training import Training
from omega21.client.verify import Verification, Verified
from omega21.client.watch import Watching
from omega21.client.weights import SavedWeights, download_weights
from omega21.data.samples import Samples, as_features, as_samples
from omega21.language import _
from omega21.protocol import PROTOCOL_VERSION
from omega21.protocol.auth.token import optional_token
from omega21.protocol.checkpoints import CheckpointStored, RestoreCheckpoint
from omega21.protocol.errors import InvalidReply, InvalidRequest, OtherVersion, UnknownSegment
from omega21.protocol.evaluations import EvaluationRow, EvaluationsReply, RecordEvaluation
from omega21.protocol.inference import ComputeRequest
from omega21.protocol.legacy import (
    Diagnosis,
    FeedbackDendritas,
    FeedbackReceived,
    Health,
    Info,
    Metrics,
    Status,
    Trained,
)
from omega21.protocol.logs import MAX_LOG_BYTES, LogLines
from omega21.protocol.names import DEFAULT_RUN, check_run_name
from omega21.protocol.plan import Plan, PutSegment, SamplesType, Segment, SegmentStored
from omega21.protocol.runs import (
    Advance,
    Control,
    CreateRun,
    RunConfig,
    RunList,
    RunRemoved,
    RunState,
    RunSummary,
)
from omega21.protocol.shards import (
    ENCODING,
    SHARD_MEDIA_TYPE,
    MissingReply,
    MissingRequest,
    ShardStored,
    encode_shard,
)
from omega21.protocol.steps import MAX_ROWS, EvaluateReply, StepRecord, StepsReply

_Message = TypeVar("_Message", bound=BaseModel)
_SHARD_HEADERS = {"Content-Type": SHARD_MEDIA_TYPE, "Content-Encoding": ENCODING}
_MISSING_AT_ONCE = 10_000
_MAX_LOG_REPLY = 4 * MAX_LOG_BYTES  # quotes are escaped in it, and in lines that quote
_MAX_PLAN_REPLY = 12 * 2**20
"""A plan of 130,000 shards, which are 33 million samples."""


class AsyncClient:
    """One server, asked asynchronously (asyncio or trio).

    `address` is where it is, `token` what it printed at its start, `ca` a PEM file of certificate
    authorities to trust beside the usual ones. A request fails after `timeout` seconds without a
    byte; one that may succeed later is tried `attempts` times. `on_connect` is called by `connect`,
    with what the server says of itself. Raises InvalidAddress, also for a token that would go over
    the network in the clear.

    With `proof_needed` the token is sent only after the server has proven that it knows it, which
    takes one request more; a server that does not is Unauthorized.
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
        carrier: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.address = parse_address(address)
        token = optional_token(token, source=_("the client's token"))
        check_encrypted(self.address, token)
        self.server_id: str | None = None
        self._on_connect = on_connect
        self.transport = Transport(
            self.address,
            token=token,
            proof_needed=proof_needed,
            timeout=timeout,
            rules=RetryRules(attempts=attempts),
            ca=ca,
            carrier=carrier,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; runs on the server go on."""
        await self.transport.aclose()

    def patient(self, patience: float) -> Self:
        """Return a client over the same connections that outlasts a broken link.

        Its calls are tried again until the link has been down for `patience` seconds; its `link`
        is its own.
        """
        other = copy(self)
        other.transport = self.transport.with_rules(RetryRules(patience=patience))
        return other

    def hurried(self, patience: float) -> Self:
        """Return a client over the same connections whose calls wait `patience` seconds at most.

        Each is tried as often as this one's; it does not outlast a broken link.
        """
        other = copy(self)
        other.transport = self.transport.waiting_at_most(patience)
        return other

    @property
    def sends_token(self) -> bool:
        """Whether the server gets the token: it does not before a proof that is needed."""
        return self.transport.sends_token

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self.transport.traffic

    @property
    def link(self) -> Link:
        """Whether the server is reached."""
        return self.transport.link

    # --- the server -------------------------------------------------------------------------------

    async def connect(self) -> Info:
        """Ask the server who it is, and check that both speak the same protocol.

        Raises OtherVersion, NotOmega21, Unauthorized, Unreachable.
        """
        info = await self.info()
        if info.protocol != PROTOCOL_VERSION:
            raise OtherVersion(
                _(
                    "the server is omega21 {version} with protocol {protocol}, this client "
                    "speaks protocol {protocol_version}"
                ).format(
                    version=info.version, protocol=info.protocol, protocol_version=PROTOCOL_VERSION
                )
            )
        self.server_id = info.server_id
        if self._on_connect is not None:
            self._on_connect(info)
        return info

    async def health(self) -> Health:
        """Ask whether the server lives."""
        return await self._get("/health", Health)

    async def info(self, run: str = DEFAULT_RUN) -> Info:
        """Return the model's architecture, and the server's version and identity."""
        return await self._get("/info", Info, run=check(run))

    async def status(self, run: str = DEFAULT_RUN) -> Status:
        """Return the state and the statistics of a run, and what this month's traffic leaves.

        Of the month's traffic, the larger count: the server's, or this machine's.
        """
        found = await self._get("/status", Status, run=check(run))
        book = self.transport.book
        if found.traffic is None or book is None:
            return found
        return found.model_copy(
            update={"traffic": joined(found.traffic, book.month(), host=book.host)}
        )

    async def metrics(self, run: str = DEFAULT_RUN) -> Metrics:
        """Return a run's recent losses and their trend."""
        return await self._get("/metricas", Metrics, run=check(run))

    async def diagnose(self, run: str = DEFAULT_RUN) -> Diagnosis:
        """Let the server test itself on its device; no run is touched."""
        call = Request(method="POST", path="/diagnostico", query={"run": check(run)})
        return (await self.transport.send(call)).read(Diagnosis)

    async def logs(self, lines: int = 1000) -> LogLines:
        """Return the newest lines of the server's log, each a JSON object, oldest first."""
        call = Request(method="GET", path="/logs", query={"lines": lines}, most=_MAX_LOG_REPLY)
        return (await self.transport.send(call)).read(LogLines)

    # --- inline batches and feedback --------------------------------------------------------------

    async def train_batch(
        self, samples: Samples, *, run: str = DEFAULT_RUN, epochs: int = 1, key: str | None = None
    ) -> Trained:
        """Train one batch at the end of a run's plan, and return its result.

        The batch is on the server's disk before it is trained. It is trained once, however often
        the request has to be sent: `key` names it (drawn at random when not given).
        """
        samples = as_samples(samples)
        call = Request(
            method="POST",
            path="/train_layer2",
            query={"run": check(run), "epochs": epochs},
            headers={**_SHARD_HEADERS, **_key(key)},
            body=encode_shard({"x": samples.x, "y": samples.y}),
        )
        return (await self.transport.send(call)).read(Trained)

    async def feedback(
        self,
        adjustments: Sequence[float],
        *,
        validated: bool,
        run: str = DEFAULT_RUN,
        key: str | None = None,
    ) -> FeedbackReceived:
        """Record what was done with the dendrites: 16 adjustments in [-1, 1], validated or not.

        On the server's disk when it returns; recorded once, however often it has to be sent.
        """
        body = _request(
            FeedbackDendritas, ajustes_aplicados=list(adjustments), validacion=validated
        )
        answer = await self._send_json(
            "POST", "/feedback_dendritas", body, query={"run": check(run)}, headers=_key(key)
        )
        return answer.read(FeedbackReceived)

    # --- runs -------------------------------------------------------------------------------------

    async def create_run(
        self, run: str, *, run_id: str | None = None, config: RunConfig | None = None
    ) -> RunState:
        """Create a run, or confirm that it is there with this id and configuration.

        On the server's disk when it returns. Raises OtherRun, OtherConfig, RunDeleted.
        """
        body = CreateRun(id=run_id or secrets.token_hex(16), config=config or RunConfig())
        return (await self._send_json("PUT", _path(run), body)).read(RunState)

    async def run_state(self, run: str) -> RunState:
        """Return everything about a run but its results. Raises UnknownRun."""
        return await self._get(_path(run), RunState)

    async def runs(self) -> tuple[RunSummary, ...]:
        """Return the server's runs, by name."""
        return tuple((await self._get("/runs", RunList)).runs)

    async def remove_run(self, run: str, *, run_id: str | None = None) -> RunRemoved:
        """Remove a run from the server; its id stays dead.

        Without `run_id`, the run of that name as it is now. Removed on disk when it returns.
        """
        found = run_id or (await self.run_state(run)).id
        call = Request(method="DELETE", path=_path(run), query={"run_id": found})
        return (await self.transport.send(call)).read(RunRemoved)

    async def pause(self, run: str) -> RunSummary:
        """Stop a run after the step under way; on the server's disk when it returns."""
        return await self._control(run, paused=True)

    async def resume(self, run: str) -> RunSummary:
        """Let a paused run go on; on the server's disk when it returns."""
        return await self._control(run, paused=False)

    async def _control(self, run: str, *, paused: bool) -> RunSummary:
        state = await self.run_state(run)
        body = Control(run_id=state.id, generation=state.generation + 1, paused=paused)
        return (await self._send_json("PUT", f"{_path(run)}/control", body)).read(RunSummary)

    # --- plan, shards, steps ----------------------------------------------------------------------

    async def plan(self, run: str) -> Plan:
        """Return a run's plan."""
        call = Request(method="GET", path=f"{_path(run)}/plan", most=_MAX_PLAN_REPLY)
        return (await self.transport.send(call)).read(Plan)

    async def put_segment(
        self, run: str, number: int, *, run_id: str, segment: Segment
    ) -> SegmentStored:
        """Add segment `number` to the plan or extend its list of shards; say which are missing.

        On the server's disk when it returns. Raises PlanConflict, OtherRun.
        """
        body = PutSegment(run_id=run_id, segment=segment)
        answer = await self._send_json("PUT", f"{_path(run)}/plan/{number}", body)
        return answer.read(SegmentStored)

    async def advance(self, run: str, *, run_id: str, to: int) -> RunSummary:
        """Raise the run's target to step `to`; a lower one changes nothing.

        On the server's disk when it returns.
        """
        body = Advance(run_id=run_id, to=to)
        return (await self._send_json("POST", f"{_path(run)}/advance", body)).read(RunSummary)

    async def steps(
        self,
        run: str,
        *,
        after: int = 0,
        wait: float = 0.0,
        gather: float = 0.0,
        limit: int = MAX_ROWS,
        vectors: bool = False,
    ) -> StepsReply:
        """Return results after step `after`.

        Waits up to `wait` seconds for the first one, then goes on collecting for `gather` seconds.
        """
        query: dict[str, str | int | float] = {
            "after": after,
            "wait": wait,
            "gather": gather,
            "limit": limit,
            "vectors": int(vectors),
        }
        call = Request(method="GET", path=f"{_path(run)}/steps", query=query)
        reply = (await self.transport.send(call)).read(StepsReply)
        _check_rows(reply, after=after, limit=limit)
        return reply

    async def history(self, run: str, *, after: int = 0) -> AsyncGenerator[StepRecord, None]:
        """Yield every result that there is now, ascending."""
        while True:
            reply = await self.steps(run, after=after)
            for row in reply.steps:
                yield row
            if not reply.steps:
                return
            after = reply.steps[-1].step

    async def put_shard(self, sha256: str, body: bytes) -> ShardStored:
        """Upload an encoded shard under its name; on the server's disk when it returns.

        Raises InvalidShard, StorageFull.
        """
        call = Request(method="PUT", path=f"/shards/{sha256}", headers=_SHARD_HEADERS, body=body)
        return (await self.transport.send(call)).read(ShardStored)

    async def missing_shards(self, shards: Sequence[str]) -> list[str]:
        """Return which of these shards the server lacks, in order."""
        missing: list[str] = []
        for start in range(0, len(shards), _MISSING_AT_ONCE):
            body = MissingRequest(shards=list(shards[start : start + _MISSING_AT_ONCE]))
            answer = await self._send_json("POST", "/shards/missing", body)
            missing += answer.read(MissingReply).missing
        return missing

    # --- computing with a run's weights -----------------------------------------------------------

    async def compute_predictions(self, run: str, shards: Sequence[str]) -> Response:
        """Return the outputs for at most 8 shards on the server, as a safetensors body."""
        body = ComputeRequest(shards=list(shards))
        return await self._send_json("POST", f"{_path(run)}/predict", body, most=MAX_OUTPUT_BYTES)

    async def compute_scores(self, run: str, shards: Sequence[str]) -> EvaluateReply:
        """Return scores and loss for at most 8 shards on the server."""
        body = ComputeRequest(shards=list(shards))
        return (await self._send_json("POST", f"{_path(run)}/evaluate", body)).read(EvaluateReply)

    async def predict(self, run: str, x: NDArray[np.float32]) -> Prediction:
        """Compute the model's outputs for x [n, 1600], all under the weights of one step."""
        return await predict(self, check(run), x=as_features(x))

    async def evaluate(
        self,
        run: str,
        samples: Samples | Iterable[Samples],
        *,
        samples_type: SamplesType = "float32",
    ) -> Evaluation:
        """Score samples, in blocks or at once, all under the weights of one step.

        They go up as `samples_type`; float16 is about half the bytes, and rounds them.
        """
        blocks = [Samples(*samples)] if isinstance(samples, tuple) else samples
        return (await score(self, check(run), blocks=blocks, samples_type=samples_type)).evaluation

    async def record_evaluation(
        self, run: str, evaluation: Evaluation, *, run_id: str
    ) -> EvaluationRow:
        """Record on the server how a run scored, for those who watch it there.

        On the server's disk when it returns; the same one again changes nothing. Raises OtherRun.
        """
        body = _request(RecordEvaluation, run_id=run_id, **asdict(evaluation))
        return (await self._send_json("POST", f"{_path(run)}/evaluations", body)).read(
            EvaluationRow
        )

    async def evaluations(self, run: str, *, after: int = 0) -> tuple[EvaluationRow, ...]:
        """Return the evaluations recorded of a run after number `after`, at most 1000."""
        query: dict[str, str | int | float] = {"after": after}
        call = Request(method="GET", path=f"{_path(run)}/evaluations", query=query)
        rows = (await self.transport.send(call)).read(EvaluationsReply).evaluations
        numbers = [after, *(row.number for row in rows)]
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise InvalidReply(
                _("the evaluations after number {after} are not ascending").format(after=after)
            )
        return tuple(rows)

    async def download_weights(self, run: str, path: Path) -> SavedWeights:
        """Save a run's weights as a safetensors file; checked and on disk when it returns."""
        return await download_weights(self.transport, check(run), path=path)

    # --- checkpoints ------------------------------------------------------------------------------

    async def pull_checkpoint(self, run: str, folder: Path) -> HeldCheckpoint:
        """Download a run's newest checkpoint into `folder`, in ranges where the link breaks.

        Checked and on disk when it returns; older ones there are removed. Raises UnknownCheckpoint,
        InvalidCheckpoint.
        """
        return await pull_checkpoint(self, check(run), folder=folder)

    async def put_upload_part(self, run: str, sha256: str, piece: bytes) -> CheckpointStored:
        """Upload a piece of a checkpoint, at most 8 MB; on the server's disk when it returns.

        Raises InvalidCheckpoint, StorageFull.
        """
        path = f"{_path(run)}/checkpoint/pieces/{sha256}"
        headers = {"Content-Type": "application/octet-stream"}
        call = Request(method="PUT", path=path, headers=headers, body=piece)
        return (await self.transport.send(call)).read(CheckpointStored)

    async def restore_checkpoint(self, run: str, request: RestoreCheckpoint) -> RunState:
        """Make a run go on from a checkpoint whose pieces are on the server.

        On the server's disk when it returns. Raises InvalidCheckpoint, Conflict when the run is
        past its step, OtherRun.
        """
        return (await self._send_json("PUT", f"{_path(run)}/checkpoint", request)).read(RunState)

    # --- training ---------------------------------------------------------------------------------

    def train(
        self,
        order: TrainRequest,
        *,
        workdir: Path | None = None,
        patience: float = 600.0,
        pull: Pull = "never",
        loggers: Sequence[LoggerChoice] = (),
    ) -> Training:
        """Train a segment of a run, whatever happens on the way.

        Use it as `async with client.train(order) as events: async for event in events: …`. Samples
        and plan are in the run folder before they are sent, and results before they are yielded.
        While the server is unreachable it is tried again for `patience` seconds. Checkpoints are
        pulled into the run folder as `pull` says: `never`, at the `end`, or every so many seconds.
        Each of `loggers` gets the figures: `tensorboard`, `mlflow`, `wandb`, `trackio`, or one of
        your own.
        """
        return Training(self, order, workdir=workdir, patience=patience, pull=pull, loggers=loggers)

    def finish(
        self,
        run: str,
        *,
        workdir: Path | None = None,
        patience: float = 600.0,
        pull: Pull = "never",
        loggers: Sequence[LoggerChoice] = (),
    ) -> Training:
        """Finish what was begun of a run, from its folder alone; else as `train`.

        Onto a server that does not have the run, it is restored from the folder's checkpoint, or
        computed again from its first step, whichever is the shorter way. Raises RunFolderConflict
        when there is nothing to finish.
        """
        order = unfinished_request(check(run), workdir)
        return Training(
            self,
            order,
            workdir=workdir,
            patience=patience,
            pull=pull,
            finishing_only=True,
            loggers=loggers,
        )

    def watch(self, run: str, *, workdir: Path | None = None, patience: float = 600.0) -> Watching:
        """Watch a run that another program trains, without touching it.

        Use it as `train`. Results of before come first, from the run's folder where this machine
        has it, else the newest ones of the server. Raises UnknownRun, and Diverged or Unavailable
        where the run stopped for good.
        """
        return Watching(self, check(run), workdir=workdir, patience=patience)

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
        earlier step. The other run is removed at the end. `tell` is called with a line now and
        then, from the event loop's thread. Raises NotReproduced, naming the first
        step that differs.
        """
        return await Verification(
            self, check(run), workdir=workdir, from_step=from_step, tell=tell
        ).run()

    async def summary(self, run: str) -> Summary:
        """Return the figures of a run's last segment, from the results that the server holds.

        Its samples are evaluated by `evaluate` and `train` only. Raises UnknownSegment when the
        run has no plan or that segment has no results.
        """
        plan, state = await self.plan(run), await self.run_state(run)
        first = state.plan_steps - plan.segments[-1].steps + 1 if plan.segments else 0
        rows = (await self.steps(run, after=first - 1, limit=1)).steps if first else []
        if not rows:
            raise UnknownSegment(
                _("run {run!r} has no results yet").format(run=run), hint=_("train it first")
            )
        last = (await self.steps(run, after=state.step - 1, limit=1)).steps
        non_finite = sum([row.refused async for row in self.history(run, after=first - 1)])
        return summarise(
            run,
            plan.segments[-1],
            ends=(rows[0], last[0] if last else rows[0]),
            evaluation=None,
            seconds=0.0,
            weights_sha256=state.weights_sha256,
            non_finite_steps=non_finite,
            deterministic=state.config.deterministic,
            environment_changed_at=changed_at(state.environments, first=first, last=state.step),
        )

    # --- how --------------------------------------------------------------------------------------

    async def _get(self, path: str, message: type[_Message], **query: str) -> _Message:
        call = Request(method="GET", path=path, query=query)
        return (await self.transport.send(call)).read(message)

    async def _send_json(
        self,
        method: str,
        path: str,
        body: BaseModel,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        most: int | None = None,
    ) -> Response:
        call = Request(
            method=method,
            path=path,
            query=query or {},
            headers={"Content-Type": "application/json", **(headers or {})},
            body=body.model_dump_json().encode(),
            most=most,
        )
        return await self.transport.send(call)


def _check_rows(reply: StepsReply, *, after: int, limit: int) -> None:
    """Raise InvalidReply unless rows come after the cursor, ascending and not too many."""
    steps = [row.step for row in reply.steps]
    if not steps:
        return
    if steps[0] <= after or steps != list(range(steps[0], steps[0] + len(steps))):
        raise InvalidReply(
            _("the results after step {after} are not ascending: they begin with {step}").format(
                after=after, step=steps[0]
            )
        )
    if len(steps) > limit:
        raise InvalidReply(
            _("{found} results came, {limit} were asked for").format(found=len(steps), limit=limit)
        )


def check(run: str) -> str:
    """Return a run's name, checked before it becomes part of an address. Raises InvalidRequest."""
    try:
        return check_run_name(run)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _path(run: str) -> str:
    return f"/runs/{check(run)}"


def _key(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or secrets.token_hex(16)}


def _request(message: type[_Message], **fields: object) -> _Message:
    """Build a request; what it refuses is named before anything is sent."""
    try:
        return message.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{where}: {first['msg']}") from error
