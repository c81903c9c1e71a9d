"""Keeps a tunnel open: opens it, monitors it, and opens it again.

The provider's state is read every few seconds, on this machine. A request through the public
address uses quota (ngrok's free plan has 20,000 a month), so one is sent four times an hour, and
more only after a failure. A tunnel that reconnects by itself keeps its address, so it gets two
minutes for that; a new one may have another address.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final

from omega21.protocol.errors import OmegaError
from omega21.server.tunnels.provider import Tunnel
from omega21.server.tunnels.reach import check_reached

logger = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """The intervals of the checks of a tunnel, in seconds."""

    state: float = 5.0
    reach: float = 900.0
    reach_again: float = 20.0
    mends_itself: float = 120.0
    first_pause: float = 1.0
    longest_pause: float = 300.0

    failed_checks: int = 3
    """Number of consecutive failed requests after which the tunnel is closed."""


@dataclass
class TunnelWatch:
    """Keeps one tunnel to `port` open, in a thread of its own, until `close`.

    `on_address` is called from that thread with each changed address, but not with the first one,
    which `open` returns.
    """

    tunnel: Tunnel
    port: int
    on_address: Callable[[str], None]
    every: Intervals = field(default_factory=Intervals)
    _stop: threading.Event = field(default_factory=threading.Event)
    _first: "SimpleQueue[str | BaseException | None]" = field(default_factory=SimpleQueue)
    _thread: threading.Thread | None = None
    _address: str = ""

    def open(self) -> str | None:
        """Open the tunnel for the first time; return its address, None if it was stopped meanwhile.

        Raises TunnelNotSetUp, TunnelRefused, TunnelLost: the first time there is no retry, since
        the user is present and can fix the cause.
        """
        self._thread = threading.Thread(target=self._run, name="omega21-tunnel", daemon=True)
        self._thread.start()
        first = self._first.get()
        if isinstance(first, BaseException):
            raise first
        return first

    def stop(self) -> None:
        """Request the end; for signal handlers and threads."""
        self._stop.set()
        self._first.put(None)

    def close(self) -> None:
        """Close the tunnel and end the thread."""
        self.stop()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        # One thread from the first opening to the end: a tunnel's program is tied to the thread
        # that started it.
        try:
            self._address = self.tunnel.open(self.port)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the address gets it
            self._first.put(error)
            return
        self._first.put(self._address)
        pause = self.every.state
        try:
            while not self._stop.is_set():
                try:
                    self._hold()
                except Exception:
                    # An error of the check is no reason to close a tunnel that may be open.
                    logger.exception("looking after the tunnel failed; it is tried again")
                    self._stop.wait(pause)
                    pause = min(self.every.longest_pause, 2 * pause)
        finally:
            self.tunnel.close()

    def _hold(self) -> None:
        reason = self._watch()
        if reason is not None:
            logger.warning("the tunnel is opened again: %s", reason)
            self._open_again()

    def _watch(self) -> str | None:
        """Return why the tunnel has to be opened again, None when stopped."""
        well_at = time.monotonic()
        check_at, failed = well_at + self.every.reach, 0
        while not self._stop.wait(self.every.state):
            state, now = self.tunnel.state(), time.monotonic()
            if state == "closed":
                return "it ended"
            if state == "open":
                well_at = now
            elif now - well_at > self.every.mends_itself:
                return f"it was without a connection for {now - well_at:.0f} s"
            if state != "open" or now < check_at:
                continue
            failed, reason = self._check(failed)
            if failed >= self.every.failed_checks:
                return reason
            check_at = now + (self.every.reach_again if failed else self.every.reach)
        return None

    def _check(self, failed: int) -> tuple[int, str]:
        """Send a request through the tunnel.

        Return the number of consecutive failures, and the reason.
        """
        reached = check_reached(self._address, port=self.port)
        match reached.outcome:
            case "tunnel_lost":
                logger.info("%s was not reached: %s", self._address, reached.reason)
                return failed + 1, f"{self._address} was not reached: {reached.reason}"
            case "quota":
                logger.warning(
                    "the tunnel's quota is used up (%s): nobody reaches this server until it is "
                    "renewed; another kind of tunnel would help",
                    reached.reason,
                )
            case "not_asked":
                logger.warning(
                    "whether %s is reached is not known: %s", self._address, reached.reason
                )
            case "server_down":
                logger.debug("the server does not answer: %s", reached.reason)
            case "reached":
                logger.debug("%s is reached", self._address)
        return 0, ""

    def _open_again(self) -> None:
        """Retry with a growing backoff until it is open or stopped."""
        self.tunnel.close()
        pause = self.every.first_pause
        while not self._stop.is_set():
            try:
                address = self.tunnel.open(self.port)
            except OmegaError as error:
                logger.warning("%s; trying again in %.0f s", error, pause)
                self._stop.wait(pause)
                pause = min(self.every.longest_pause, 2 * pause)
                continue
            if address != self._address:
                self._address = address
                self.on_address(address)
            logger.info("the tunnel is open again at %s", address)
            return
