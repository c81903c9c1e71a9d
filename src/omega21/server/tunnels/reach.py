"""Checks whether the server is reachable from the internet, and if not, what failed."""

from dataclasses import dataclass
from typing import Final, Literal

import httpx

from omega21.protocol.errors import TunnelNotSetUp
from omega21.protocol.legacy import Health
from omega21.server.tunnels.outside import outside_client

_SECONDS: Final = 20.0
_QUOTA_CODES: Final = ("ERR_NGROK_725", "ERR_NGROK_727", "ERR_NGROK_734")
_HEADERS: Final = {"ngrok-skip-browser-warning": "1", "user-agent": "omega21-server"}


@dataclass(frozen=True)
class Reached:
    """The result of a check.

    `tunnel_lost`: a new tunnel may help; `quota`: no new tunnel helps; `not_asked`: nothing was
    sent, since the environment variables are invalid.
    """

    outcome: Literal["reached", "server_down", "quota", "tunnel_lost", "not_asked"]
    reason: str = ""


def check_reached(public: str, *, port: int) -> Reached:
    """Request `/health` through the public address, after requesting it on loopback.

    One request through the tunnel, which counts towards its quota.
    """
    with httpx.Client(timeout=_SECONDS, trust_env=False) as direct:
        local = _ask(direct, f"http://127.0.0.1:{port}")
    if local is not None:
        return Reached("server_down", local)
    try:
        with outside_client(seconds=_SECONDS) as http:
            reason = _ask(http, public)
    except TunnelNotSetUp as error:
        return Reached("not_asked", str(error))
    if reason is None:
        return Reached("reached")
    return Reached("quota" if reason in _QUOTA_CODES else "tunnel_lost", reason)


def _ask(http: httpx.Client, address: str) -> str | None:
    """Return why `/health` was not answered by an omega21 server, None if it was."""
    try:
        reply = http.get(f"{address}/health", headers=_HEADERS)
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    code = reply.headers.get("ngrok-error-code")
    if code:
        return str(code)
    try:
        Health.model_validate_json(reply.content)
    except ValueError:
        return f"HTTP {reply.status_code}, {reply.headers.get('content-type', 'no content type')}"
    return None if reply.is_success else f"HTTP {reply.status_code}"
