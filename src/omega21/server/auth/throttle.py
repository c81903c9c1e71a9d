"""How often a wrong token may be tried before the answer is 429 and no longer 401.

It bounds what guessing costs the server and tells honest callers to stop. It is no lock: the right
token is looked at first and opens at any time, since behind a tunnel all requests come from one
address, and whoever guesses would lock the owner out with himself.
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
"""Wrong tokens that a peer may try at once."""

SECONDS_EACH: Final = 3.0
"""For each wrong token this much time has to pass, once the burst is used up."""

_PEERS: Final = 1024
_LOG_SECONDS: Final = 60.0  # between two lines: a guesser does not fill the log


@dataclass
class Throttle:
    """Failures by peer. `clock` is in seconds; belongs to the event loop's thread.

    Of each peer it keeps one number, the time at which all its failures are paid off (the generic
    cell rate algorithm), and it keeps at most 1024 peers, those of the newest failures.
    """

    clock: Callable[[], float] = time.monotonic
    seconds_each: float = SECONDS_EACH
    warning: str = "many wrong tokens from %s: answered with 429 for now"
    _paid_off_at: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _logged_at: float | None = None

    def fail(self, peer: str) -> float | None:
        """Count a failure; return how many seconds to wait when there were too many of them."""
        now = self.clock()
        name = _network(peer)
        paid_off_at = max(now, self._paid_off_at.pop(name, now)) + self.seconds_each
        wait = paid_off_at - now - BURST * self.seconds_each
        if wait > 0:
            paid_off_at -= self.seconds_each  # refused unseen, so not one more to pay off
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
    """Return what counts as one peer: an address, or the 2**64 addresses of one IPv6 machine."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.version == 4:
        return peer
    return str(ipaddress.ip_network((address, 64), strict=False))
