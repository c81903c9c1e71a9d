"""What a tunnel is, whoever provides it."""

from typing import Literal, Protocol

from omega21.protocol.link.tunnels import TunnelKind

TunnelState = Literal["open", "reconnecting", "closed"]
"""What the provider says of a tunnel. `reconnecting`: it mends itself, and keeps its address if it
can; `closed`: it will not come back by itself."""


class Tunnel(Protocol):
    """Brings a port of this machine's loopback to the outside; used by one thread.

    `open` and `close` may be called again, in turn. Errors are told apart by their class:
    TunnelNotSetUp, something is missing here; TunnelRefused, the provider said no; TunnelLost, the
    provider was not reached or its program ended.
    """

    kind: TunnelKind

    def open(self, port: int) -> str:
        """Open it and return the https address at which the port can be reached.

        Raises TunnelNotSetUp, TunnelRefused, TunnelLost; nothing is left open then.
        """
        ...

    def state(self) -> TunnelState:
        """Return what the provider says of it now; asks this machine only."""
        ...

    def close(self) -> None:
        """Close it, as far as it is open."""
        ...
