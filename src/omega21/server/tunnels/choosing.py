"""The choice of the tunnel."""

import os
from pathlib import Path

from omega21.language import _
from omega21.protocol.errors import TunnelNotSetUp
from omega21.protocol.link.tunnels import TunnelAsked
from omega21.server.tunnels.authtoken import ask_authtoken, find_authtoken
from omega21.server.tunnels.cloudflared import CloudflaredTunnel
from omega21.server.tunnels.ngrok import NgrokTunnel
from omega21.server.tunnels.program import find_program
from omega21.server.tunnels.provider import Tunnel


def choose_tunnel(asked: TunnelAsked, *, cloudflared: str | None, folder: Path) -> Tunnel | None:
    """Create the requested tunnel, not open yet; None for `none`.

    `cloudflared` is the path or URL of its program, if it is not on PATH; a download goes to
    `folder`. Raises TunnelNotSetUp when a program or a token is missing or invalid, TunnelLost.
    """
    try:
        match asked:
            case "none":
                return None
            case "ngrok":
                return _ngrok()
            case "cloudflared":
                return _cloudflared(cloudflared, folder)
            case "auto":
                return _any(cloudflared, folder)
    except ValueError as error:
        raise TunnelNotSetUp(str(error)) from error


def _ngrok() -> Tunnel:
    authtoken = find_authtoken() or ask_authtoken()
    if authtoken is None:
        raise TunnelNotSetUp(
            _("there is no token for ngrok"),
            hint=_(
                "set NGROK_AUTHTOKEN, in the environment or in Colab's secrets, to the one at "
                "https://dashboard.ngrok.com/get-started/your-authtoken"
            ),
        )
    return NgrokTunnel(authtoken)


def _cloudflared(given: str | None, folder: Path) -> Tunnel:
    if os.name != "posix":
        raise TunnelNotSetUp(_("cloudflared is run by the server on Linux and macOS only"))
    program = find_program(given, folder=folder)
    if program is None:
        raise TunnelNotSetUp(
            _("there is no program named cloudflared on PATH"),
            hint=_("install it, or give its path or URL#sha256=… with --cloudflared"),
        )
    return CloudflaredTunnel(program)


def _any(given: str | None, folder: Path) -> Tunnel:
    authtoken = find_authtoken()
    if authtoken is not None:
        return NgrokTunnel(authtoken)
    if given or find_program(None, folder=folder):
        return _cloudflared(given, folder)
    raise TunnelNotSetUp(
        _("there is neither a token for ngrok nor the program cloudflared"),
        hint=_(
            "set NGROK_AUTHTOKEN, in the environment or in Colab's secrets, or give cloudflared's "
            "path or URL#sha256=… with --cloudflared; --tunnel none opens none"
        ),
    )
