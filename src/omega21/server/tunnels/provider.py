"""The interface of tunnels."""

from typing import Literal, Protocol

from omega21.protocol.link.tunnels import TunnelKind

TunnelState = Literal["open", "reconnecting", "closed"]
"""State of a tunnel according to its provider. `reconnecting`: it reconnects by itself, with the
same address if possible; `closed`: it does not reconnect."""


class Tunnel(Protocol):
    """Gives a loopback port of this machine a public address; for one thread.

    `open` and `close` may be called repeatedly, in turn. The error's class says what failed:
    TunnelNotSetUp, something is missing here; TunnelRefused, the provider refused; TunnelLost, the
    provider is not reachable or its program ended.
    """

    kind: TunnelKind

    def open(self, port: int) -> str:
        """Open it and return the https address of the port.

        Raises TunnelNotSetUp, TunnelRefused, TunnelLost; nothing is left open then.
        """
        ...

    def state(self) -> TunnelState:
        """Return its state according to the provider; sends no request to the internet."""
        ...

    def close(self) -> None:
        """Close it, if it is open."""
        ...
