"""All calls of a server, by noun, over one transport: one method an HTTP request.

Every call may be sent again: reads by nature, writes because they name what they want (a shard by
its content, a segment by its number, a target) or carry an Idempotency-Key. What is on the server's
disk when a call returns is said by each method; where nothing is said, the call changes nothing.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from omega21.client.api.checkpoints import Checkpoints
from omega21.client.api.evaluations import Evaluations
from omega21.client.api.inference import Inference
from omega21.client.api.legacy import Legacy
from omega21.client.api.plans import Plans
from omega21.client.api.runs import Runs
from omega21.client.api.server import Server
from omega21.client.api.shards import Shards
from omega21.client.api.steps import Steps
from omega21.client.http.link import LinkProfile
from omega21.client.http.retry import RetryRules
from omega21.client.http.transport import Transport
from omega21.language import _
from omega21.protocol import PROTOCOL_VERSION
from omega21.protocol.errors import OtherVersion
from omega21.protocol.legacy import Info


class Api:
    """The calls of one server; `on_connect` is given what the server says of itself."""

    def __init__(
        self, transport: Transport, *, on_connect: Callable[[Info], None] | None = None
    ) -> None:
        self.transport = transport
        self._on_connect = on_connect
        self.server = Server(transport)
        self.runs = Runs(transport)
        self.plans = Plans(transport)
        self.shards = Shards(transport)
        self.steps = Steps(transport)
        self.checkpoints = Checkpoints(transport)
        self.inference = Inference(transport)
        self.evaluations = Evaluations(transport)
        self.legacy = Legacy(transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.transport.aclose()

    @property
    def address(self) -> str:
        """Where the server is."""
        return self.transport.address

    @property
    def profile(self) -> LinkProfile:
        """How the link to it is best used."""
        return self.transport.profile

    async def connect(self) -> Info:
        """Ask the server who it is, and check that both speak the same protocol.

        Raises OtherVersion, NotOmega21, Unauthorized, Unreachable.
        """
        info = await self.legacy.info()
        if info.protocol != PROTOCOL_VERSION:
            raise OtherVersion(
                _(
                    "the server is omega21 {version} with protocol {protocol}, this client "
                    "speaks protocol {protocol_version}"
                ).format(
                    version=info.version, protocol=info.protocol, protocol_version=PROTOCOL_VERSION
                )
            )
        if self._on_connect is not None:
            self._on_connect(info)
        return info

    def patient(self, patience: float) -> Self:
        """Return the same calls, over the same connections, that outlast a broken link.

        Each is tried again until the link has been down for `patience` seconds; the link state of
        its transport is its own.
        """
        return self._over(self.transport.with_rules(RetryRules(patience=patience)))

    def hurried(self, patience: float) -> Self:
        """Return the same calls, each of which waits `patience` seconds at most in all.

        Each is tried as often as before; it does not outlast a broken link.
        """
        return self._over(self.transport.waiting_at_most(patience))

    def _over(self, transport: Transport) -> Self:
        return type(self)(transport, on_connect=self._on_connect)
