"""The link to a server: its state and its profile."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from omega21.client.http.address import is_loopback
from omega21.protocol.errors import OmegaError


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkProfile:
    """Parameters for a link: a local one, or one whose requests and bytes may be limited.

    An SSH forward ends on this machine, so it is local. A reply collects results for
    `gather_seconds`; the server's status is polled every `poll_seconds`; `bytes_per_second` is the
    assumed upload rate until it is measured.
    """

    is_local: bool
    gather_seconds: float
    poll_seconds: float
    bytes_per_second: float

    def upload_rate(self, measured: float | None) -> float:
        """Return bytes per second: measured for a link that is not local, else assumed."""
        return self.bytes_per_second if self.is_local or not measured else measured


LOCAL: Final = LinkProfile(
    is_local=True, gather_seconds=0.2, poll_seconds=2.0, bytes_per_second=200e6
)
"""Requests are cheap, and a live view should update often."""

REMOTE: Final = LinkProfile(
    is_local=False, gather_seconds=5.0, poll_seconds=60.0, bytes_per_second=1e6
)
"""Tunnels count requests and bytes; 8 Mbit/s until the upload rate is measured."""


def link_profile(address: str) -> LinkProfile:
    """Return the profile of the link to a parsed address."""
    return LOCAL if is_loopback(address) else REMOTE


@dataclass(slots=True)
class Link:
    """Whether the server is reachable.

    `since` is when it became unreachable, in seconds since 1970.
    """

    since: float | None = None
    error: OmegaError | None = None
    on_change: Callable[[], None] | None = None
    _down_at: float = 0.0

    def down(self, error: OmegaError) -> None:
        """Record that the server is not reachable."""
        self.error = error
        if self.since is None:
            self.since, self._down_at = time.time(), time.monotonic()
            self._tell()

    def up(self) -> None:
        """Record that the server answered."""
        if self.since is not None:
            self.since = self.error = None
            self._tell()

    def down_for(self) -> float:
        """Seconds without an answer; 0 while the server is reachable."""
        return 0.0 if self.since is None else time.monotonic() - self._down_at

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change()
