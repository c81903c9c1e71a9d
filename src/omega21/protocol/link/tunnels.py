"""What brings the server's port to the outside, and what that allows free of charge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

TunnelKind = Literal["none", "ngrok", "cloudflared"]
"""`none`: the server's own address, `ssh -L`, or a proxy of the user's."""

TunnelAsked = Literal["auto", "none", "ngrok", "cloudflared"]
"""`auto`: ngrok where there is a token for it, else cloudflared where its program is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunnelLimits:
    """What a tunnel carries without being paid for; None where it sets no limit of that kind.

    A month is a calendar month (UTC). Bytes count in both directions.
    """

    bytes_a_month: int | None = None
    requests_a_month: int | None = None
    requests_in_flight: int | None = None
    request_seconds: float | None = None


LIMITS: Final[Mapping[TunnelKind, TunnelLimits]] = {
    "none": TunnelLimits(),
    # ngrok's free plan: "data transfer out" of its network, to callers and to the agent alike.
    "ngrok": TunnelLimits(bytes_a_month=10**9, requests_a_month=20_000),
    # A quick tunnel (trycloudflare.com); it carries no server-sent events either. The seconds are
    # those to a reply's first byte.
    "cloudflared": TunnelLimits(requests_in_flight=200, request_seconds=100.0),
}
"""What each kind of tunnel allows free of charge."""

_HOSTS: Final[Mapping[str, TunnelKind]] = {
    ".ngrok-free.app": "ngrok",
    ".ngrok-free.dev": "ngrok",
    ".ngrok.app": "ngrok",
    ".ngrok.io": "ngrok",
    ".trycloudflare.com": "cloudflared",
}


def tunnel_of(host: str) -> TunnelKind:
    """Tell a tunnel by the name of its host, as for one that was started by hand."""
    return next((kind for end, kind in _HOSTS.items() if host.lower().endswith(end)), "none")
