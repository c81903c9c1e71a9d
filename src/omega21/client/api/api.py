"""All HTTP calls of a server, by noun, over one transport: one method for each request.

Every call is idempotent: a write identifies its object (a shard by its content, a segment by its
number, a target) or has an Idempotency-Key. Each method says what is on the server's disk when it
returns; a method that says nothing changes nothing.
"""

from collections.abc import Callable
from typing import Self

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
from omega21.client.http.link import LinkProfile
from omega21.client.http.transport import Transport
from omega21.language import _
from omega21.protocol import PROTOCOL_VERSION
from omega21.protocol.errors import OtherVersion
from omega21.protocol.legacy import Info


class Api:
    """The calls of one server; `on_connect` is called with the server's description of itself."""

    def __init__(
        self, transport: Transport, *, on_connect: Callable[[Info], None] | None = None
    ) -> None:
        self.transport = transport
        self._on_connect = on_connect
        self.server = Server(transport)
        self.runs = Runs(transport)
        self.plans = Plans(transport)
        self.probe = Probe(transport)
        self.code = Code(transport)
        self.shards = Shards(transport)
        self.steps = Steps(transport)
        self.checkpoints = Checkpoints(transport)
        self.inference = Inference(transport)
        self.evaluations = Evaluations(transport)
        self.legacy = Legacy(transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.aclose()

    @property
    def address(self) -> str:
        """The server's address."""
        return self.transport.address

    @property
    def profile(self) -> LinkProfile:
        """The profile of the link to it."""
        return self.transport.profile

    async def connect(self) -> Info:
        """Request the server's identity, and check that both have the same protocol version.

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
        """Return the same calls, over the same connections, with retries while the link is down.

        Each is retried until the link has been down for `patience` seconds; the other rules stay.
        Its transport has its own link state.
        """
        return self._over(self.transport.with_patience(patience))

    def hurried(self, patience: float) -> Self:
        """Return the same calls, each with a total wait of at most `patience` seconds.

        The number of attempts is the same; a broken link is not waited for.
        """
        return self._over(self.transport.waiting_at_most(patience))

    def _over(self, transport: Transport) -> Self:
        return type(self)(transport, on_connect=self._on_connect)
