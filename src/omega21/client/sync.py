"""The synchronous client, with an event loop in a background thread.

Each method is that of the same name in `AsyncClient` or its `api`, with the same signature and
docstring.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from omega21.client.api.api import Api
from omega21.client.api.checkpoints import Checkpoints
from omega21.client.api.code import Code
from omega21.client.api.evaluations import Evaluations
from omega21.client.api.inference import Inference
from omega21.client.api.legacy import Legacy
from omega21.client.api.plans import Plans
from omega21.client.api.probe import Probe
from omega21.client.api.runs import Runs
from omega21.client.api.server import Server
from omega21.client.api.shards import Shards
from omega21.client.api.steps import Steps
from omega21.client.client import AsyncClient
from omega21.client.events import Event
from omega21.client.http.link import Link
from omega21.client.http.usage import Traffic
from omega21.client.training.stream import EventStream

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Async = TypeVar("_Async")


class _Sync(Generic[_Async]):
    """An asynchronous object, and the event loop in another thread that runs its methods."""

    def __init__(self, of: _Async, portal: BlockingPortal) -> None:
        self._of = of
        self._portal = portal


def _waiting(
    method: Callable[Concatenate[_Async, _P], Awaitable[_T]],
) -> Callable[Concatenate[_Sync[_Async], _P], _T]:
    """Convert a coroutine method to one that waits for its result."""

    @wraps(method)
    def call(self: _Sync[_Async], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self._portal.call(partial(method, self._of, *args, **kwargs))

    return call


def _iterating(
    method: Callable[Concatenate[_Async, _P], AsyncGenerator[_T, None]],
) -> Callable[Concatenate[_Sync[_Async], _P], Iterator[_T]]:
    """Convert an asynchronous generator method to a generator method."""

    @wraps(method)
    def call(self: _Sync[_Async], /, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_T]:
        items = method(self._of, *args, **kwargs)
        try:
            while (item := self._portal.call(_next, items)) is not None:
                yield item
        finally:
            self._portal.call(items.aclose)

    return call


def _streaming(
    method: Callable[Concatenate[_Async, _P], EventStream],
) -> Callable[Concatenate[_Sync[_Async], _P], Generator[Event, None, None]]:
    """Convert a method that returns a stream to one that yields its events; the last is `Done`.

    Closing the generator, or an exception in the loop over it, stops the client and releases the
    run folder; the server trains on to its target.
    """

    @wraps(method)
    def call(
        self: _Sync[_Async], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Generator[Event, None, None]:
        stream = method(self._of, *args, **kwargs)
        with self._portal.wrap_async_context_manager(stream) as events:
            while (event := self._portal.call(_next, events)) is not None:
                yield event

    return call


def _constructed_as(
    _cls: Callable[_P, Any],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, _P], None]]:
    """Give a constructor the signature of another class."""

    def same(init: Callable[..., None]) -> Callable[Concatenate[Any, _P], None]:
        return wraps(_cls.__init__)(init)

    return same


class SyncServer(_Sync[Server]):
    """See `api.server`."""

    logs = _waiting(Server.logs)
    probe_link = _waiting(Server.probe_link)


class SyncRuns(_Sync[Runs]):
    """See `api.runs`."""

    create = _waiting(Runs.create)
    state = _waiting(Runs.state)
    log = _waiting(Runs.log)
    all = _waiting(Runs.all)
    advance = _waiting(Runs.advance)
    pause = _waiting(Runs.pause)
    unpause = _waiting(Runs.unpause)
    remove = _waiting(Runs.remove)


class SyncPlans(_Sync[Plans]):
    """See `api.plans`."""

    get = _waiting(Plans.get)
    put_segment = _waiting(Plans.put_segment)


class SyncProbe(_Sync[Probe]):
    """See `api.probe`."""

    run = _waiting(Probe.run)


class SyncCode(_Sync[Code]):
    """See `api.code`."""

    describe = _waiting(Code.describe)
    put = _waiting(Code.put)
    get = _waiting(Code.get)
    missing = _waiting(Code.missing)


class SyncShards(_Sync[Shards]):
    """See `api.shards`."""

    put = _waiting(Shards.put)
    missing = _waiting(Shards.missing)


class SyncSteps(_Sync[Steps]):
    """See `api.steps`."""

    read = _waiting(Steps.read)
    series = _waiting(Steps.series)
    history = _iterating(Steps.history)


class SyncCheckpoints(_Sync[Checkpoints]):
    """See `api.checkpoints`."""

    download = _waiting(Checkpoints.download)
    put_part = _waiting(Checkpoints.put_part)
    restore = _waiting(Checkpoints.restore)


class SyncInference(_Sync[Inference]):
    """See `api.inference`."""

    predict = _waiting(Inference.predict)
    evaluate = _waiting(Inference.evaluate)


class SyncEvaluations(_Sync[Evaluations]):
    """See `api.evaluations`."""

    record = _waiting(Evaluations.record)
    read = _waiting(Evaluations.read)


class SyncLegacy(_Sync[Legacy]):
    """See `api.legacy`."""

    health = _waiting(Legacy.health)
    info = _waiting(Legacy.info)
    status = _waiting(Legacy.status)
    metrics = _waiting(Legacy.metrics)
    diagnose = _waiting(Legacy.diagnose)
    train_batch = _waiting(Legacy.train_batch)
    feedback = _waiting(Legacy.feedback)


class SyncApi(_Sync[Api]):
    """The calls of one server, by noun; see `Api`."""

    def __init__(self, of: Api, portal: BlockingPortal) -> None:
        super().__init__(of, portal)
        self.server = SyncServer(of.server, portal)
        self.runs = SyncRuns(of.runs, portal)
        self.plans = SyncPlans(of.plans, portal)
        self.code = SyncCode(of.code, portal)
        self.probe = SyncProbe(of.probe, portal)
        self.shards = SyncShards(of.shards, portal)
        self.steps = SyncSteps(of.steps, portal)
        self.checkpoints = SyncCheckpoints(of.checkpoints, portal)
        self.inference = SyncInference(of.inference, portal)
        self.evaluations = SyncEvaluations(of.evaluations, portal)
        self.legacy = SyncLegacy(of.legacy, portal)


class Client(_Sync[AsyncClient]):
    """The synchronous client of one server; use it in a `with` block, or call `close`.

    Its constructor is that of `AsyncClient`. Methods may be called from any thread; each call waits
    for its own reply.
    """

    @_constructed_as(AsyncClient)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        client = AsyncClient(*args, **kwargs)
        self._held = ExitStack()
        super().__init__(client, self._held.enter_context(start_blocking_portal("asyncio")))
        self._held.callback(self._portal.call, client.aclose)
        self.api = SyncApi(client.api, self._portal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the background thread; runs on the server continue."""
        self._held.close()

    @property
    def address(self) -> str:
        """The server's address."""
        return self._of.address

    @property
    def server_id(self) -> str | None:
        """The server's id, once connected."""
        return self._of.server_id

    @property
    def sends_token(self) -> bool:
        """See `AsyncClient.sends_token`."""
        return self._of.sends_token

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._of.traffic

    @property
    def link(self) -> Link:
        """The state of the link to the server."""
        return self._of.link

    connect = _waiting(AsyncClient.connect)
    info = _waiting(AsyncClient.info)
    status = _waiting(AsyncClient.status)
    metrics = _waiting(AsyncClient.metrics)
    diagnose = _waiting(AsyncClient.diagnose)
    logs = _waiting(AsyncClient.logs)
    runs = _waiting(AsyncClient.runs)
    pause = _waiting(AsyncClient.pause)
    unpause = _waiting(AsyncClient.unpause)
    remove = _waiting(AsyncClient.remove)
    summary = _waiting(AsyncClient.summary)
    train = _streaming(AsyncClient.train)
    resume = _streaming(AsyncClient.resume)
    watch = _streaming(AsyncClient.watch)
    verify = _waiting(AsyncClient.verify)
    train_batch = _waiting(AsyncClient.train_batch)
    feedback = _waiting(AsyncClient.feedback)
    predict = _waiting(AsyncClient.predict)
    evaluate = _waiting(AsyncClient.evaluate)
    download_weights = _waiting(AsyncClient.download_weights)
    pull_checkpoint = _waiting(AsyncClient.pull_checkpoint)


async def _next(items: AsyncIterator[_T]) -> _T | None:
    return await anext(items, None)
