"""Tunnels, and the limits of their free plans."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

TunnelKind = Literal["none", "ngrok", "cloudflared"]
"""`none`: the server's own address, `ssh -L`, or the user's proxy."""

TunnelAsked = Literal["auto", "none", "ngrok", "cloudflared"]
"""`auto`: ngrok if it has a token, else cloudflared if its program is installed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunnelLimits:
    """Limits of a tunnel's free plan; None for no limit of that kind.

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
"""The free plan's limits for each kind of tunnel."""

_HOSTS: Final[Mapping[str, TunnelKind]] = {
    ".ngrok-free.app": "ngrok",
    ".ngrok-free.dev": "ngrok",
    ".ngrok.app": "ngrok",
    ".ngrok.io": "ngrok",
    ".trycloudflare.com": "cloudflared",
}


def tunnel_of(host: str) -> TunnelKind:
    """Recognise a tunnel by its host name, also one that was started by hand."""
    return next((kind for end, kind in _HOSTS.items() if host.lower().endswith(end)), "none")
