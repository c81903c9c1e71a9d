"""The link to a server: whether it is up, and how it is best used."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from omega21.client.http.address import is_loopback
from omega21.protocol.errors import OmegaError


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkProfile:
    """How a link is best used: one of this machine, or one whose requests and bytes may count.

    An SSH forward ends on this machine, and so is local. A reply collects results for
    `gather_seconds`; the server's status is asked for every `poll_seconds`; `bytes_per_second` is
    what goes up, where that has not been measured.
    """

    is_local: bool
    gather_seconds: float
    poll_seconds: float
    bytes_per_second: float

    def upload_rate(self, measured: float | None) -> float:
        """Return bytes per second: as measured of a link that is not local, else as assumed."""
        return self.bytes_per_second if self.is_local or not measured else measured


LOCAL: Final = LinkProfile(
    is_local=True, gather_seconds=0.2, poll_seconds=2.0, bytes_per_second=200e6
)
"""A request costs little, and a live view likes to move."""

REMOTE: Final = LinkProfile(
    is_local=False, gather_seconds=5.0, poll_seconds=60.0, bytes_per_second=1e6
)
"""A tunnel counts requests and bytes; 8 Mbit/s until the uplink is measured."""


def link_profile(address: str) -> LinkProfile:
    """Return the profile of the link to a parsed address."""
    return LOCAL if is_loopback(address) else REMOTE


@dataclass(slots=True)
class Link:
    """Whether the server is reached: `since` is when it last stopped being, seconds since 1970."""

    since: float | None = None
    error: OmegaError | None = None
    on_change: Callable[[], None] | None = None
    _down_at: float = 0.0

    def down(self, error: OmegaError) -> None:
        """The server was not reached."""
        self.error = error
        if self.since is None:
            self.since, self._down_at = time.time(), time.monotonic()
            self._tell()

    def up(self) -> None:
        """The server answered."""
        if self.since is not None:
            self.since = self.error = None
            self._tell()

    def down_for(self) -> float:
        """Seconds without an answer; 0 while the server is reached."""
        return 0.0 if self.since is None else time.monotonic() - self._down_at

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change()
