"""Tunnels of ngrok, by its official SDK: no program to download, but an account's token.

The SDK reconnects by itself, with the same address if possible. It sends a heartbeat every ten
seconds.
"""

import asyncio
import atexit
import importlib
import logging
import re
import time
from contextlib import suppress
from typing import Any, Final

from omega21.language import _
from omega21.protocol.errors import OmegaError, TunnelLost, TunnelNotSetUp, TunnelRefused
from omega21.protocol.link.tunnels import TunnelKind
from omega21.server.tunnels.provider import TunnelState

logger = logging.getLogger(__name__)

_OPEN_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 45.0  # a heartbeat every 10 s, with 15 s of tolerance
_LETTING_GO_SECONDS: Final = 0.5
_CODE = re.compile(r"ERR_NGROK_(\d+)")


class NgrokTunnel:
    """A tunnel to an address that ngrok chooses for the account."""

    kind: TunnelKind = "ngrok"

    def __init__(self, authtoken: str) -> None:
        self._authtoken = authtoken
        self._runner: asyncio.Runner | None = None
        self._session: Any = None
        self._beat_at = 0.0
        self._stopped = False

    def open(self, port: int) -> str:
        """See `Tunnel.open`."""
        sdk = _load_sdk()
        self._runner = asyncio.Runner()
        self._stopped = False
        try:
            url: str = self._runner.run(asyncio.wait_for(self._open(sdk, port), _OPEN_SECONDS))
        except (ValueError, OSError, TimeoutError) as error:  # the SDK raises ValueErrors
            self.close()
            raise self._named(error) from error
        return url

    async def _open(self, sdk: Any, port: int) -> str:
        builder = sdk.SessionBuilder()
        builder.authtoken(self._authtoken)
        builder.metadata("omega21")
        builder.handle_heartbeat(self._on_heartbeat)
        builder.handle_disconnection(self._on_disconnection)
        builder.handle_stop_command(self._on_stop)
        self._session = await builder.connect()
        self._on_heartbeat()
        to_url = f"http://127.0.0.1:{port}"
        listener = await self._session.http_endpoint().listen_and_forward(to_url)
        return str(listener.url())

    def state(self) -> TunnelState:
        """See `Tunnel.state`."""
        if self._session is None or self._stopped:
            return "closed"
        is_silent = time.monotonic() - self._beat_at > _SILENCE_SECONDS
        return "reconnecting" if is_silent else "open"

    def close(self) -> None:
        """See `Tunnel.close`."""
        runner, session = self._runner, self._session
        self._runner = self._session = None
        if runner is None:
            return
        with runner:
            if session is not None:
                with suppress(ValueError, TimeoutError):  # it has ended already
                    runner.run(asyncio.wait_for(_close(session), _CLOSE_SECONDS))

    # --- called by the SDK, on its own threads ---

    def _on_heartbeat(self, _milliseconds: int | None = None) -> None:
        self._beat_at = time.monotonic()

    def _on_disconnection(self, address: str, reason: str) -> None:
        logger.warning("ngrok connects to %s again: %s", address, self._line(reason))

    def _on_stop(self) -> None:
        logger.warning("ngrok was told to stop this tunnel, from its dashboard")
        self._stopped = True

    # --- errors ---

    def _named(self, error: BaseException) -> OmegaError:
        words = self._line(" ".join(str(arg) for arg in error.args) or "no answer in time")
        found = _CODE.search(words)
        if found is None:
            return TunnelLost(_("ngrok was not reached: {reason}").format(reason=words))
        return TunnelRefused(
            _("ngrok refused the tunnel: {reason}").format(reason=words), hint=_hint(int(found[1]))
        )

    def _line(self, text: str) -> str:
        """Return the SDK's message on one line, without the token, which some messages quote."""
        line = " ".join(text.replace(self._authtoken, "…").split())
        return line if len(line) <= 300 else line[:299] + "…"


async def _close(session: Any) -> None:
    await session.close()


def _load_sdk() -> Any:
    # The SDK's threads release Python objects some milliseconds after a call has returned. If the
    # interpreter ends first, they abort it: 15 of 30 processes that ended right after a failed
    # connection, none of 30 that waited 0.1 s.
    atexit.unregister(_let_go)
    atexit.register(_let_go)
    for name in ("ngrok", "muxado", "rustls"):  # at DEBUG they log too much
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return importlib.import_module("ngrok")
    except ModuleNotFoundError as error:
        raise TunnelNotSetUp(
            _("ngrok's SDK is not installed here"),
            hint=_("in your copy of the repository: pip install '.[tunnel]'"),
        ) from error


def _let_go() -> None:
    time.sleep(_LETTING_GO_SECONDS)


def _hint(code: int) -> str | None:
    match code:
        case 105 | 106 | 107 | 4018:
            return _(
                "copy the authtoken from https://dashboard.ngrok.com/get-started/your-authtoken "
                "into NGROK_AUTHTOKEN"
            )
        case 108:
            return _(
                "the account has its maximum number of open tunnels: end another one, or use "
                "--tunnel cloudflared"
            )
        case 725 | 727 | 734:
            return _("the account's quota is used up: wait, or use --tunnel cloudflared")
        case _:
            return _("look the code up at https://ngrok.com/docs/errors")
