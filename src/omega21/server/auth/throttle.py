"""The limit on wrong tokens, beyond which the reply is 429 instead of 401.

It limits the server's cost of guessing and tells honest callers to stop. It is not a lockout: a
valid token is always accepted, since behind a tunnel all requests come from one address, and a
guesser would lock the owner out.
"""

import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

logger = logging.getLogger(__name__)

BURST: Final = 20
"""Number of wrong tokens that a peer may try in a burst."""

SECONDS_EACH: Final = 3.0
"""Time for each further wrong token, after the burst."""

_PEERS: Final = 1024
_LOG_SECONDS: Final = 60.0  # between two log lines, so that guessing does not fill the log


@dataclass
class Throttle:
    """Failures by peer. `clock` is in seconds; event loop's thread only.

    For each peer it stores one number, the time at which all its failures are expired (the generic
    cell rate algorithm), for at most 1024 peers, those with the newest failures.
    """

    clock: Callable[[], float] = time.monotonic
    seconds_each: float = SECONDS_EACH
    warning: str = "many wrong tokens from %s: answered with 429 for now"
    _paid_off_at: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _logged_at: float | None = None

    def fail(self, peer: str) -> float | None:
        """Count a failure; return the seconds to wait if there were too many."""
        now = self.clock()
        name = _network(peer)
        paid_off_at = max(now, self._paid_off_at.pop(name, now)) + self.seconds_each
        wait = paid_off_at - now - BURST * self.seconds_each
        if wait > 0:
            paid_off_at -= self.seconds_each  # refused without a check, so not counted
        self._paid_off_at[name] = paid_off_at
        if len(self._paid_off_at) > _PEERS:
            self._paid_off_at.popitem(last=False)
        if wait <= 0:
            return None
        self._log(peer, now)
        return wait

    def _log(self, peer: str, now: float) -> None:
        if self._logged_at is None or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            logger.warning(self.warning, peer or "?")


def _network(peer: str) -> str:
    """Return the network that counts as one peer: an address, or an IPv6 /64."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.version == 4:
        return peer
    return str(ipaddress.ip_network((address, 64), strict=False))
