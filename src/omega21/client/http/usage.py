"""The traffic of the link: counted, and stored by host and month on this machine.

A tunnel's provider counts by account, whatever server is behind it: a new machine behind the same
address starts its own count at zero, and this count continues. It is stored by the address's host,
beside the run folders. Traffic to loopback is not stored.
"""

import logging
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from omega21.data.usage import Counted, TrafficLedger
from omega21.protocol.link.tunnels import tunnel_of
from omega21.protocol.link.usage import MonthTraffic, month_traffic

WRITE_SECONDS: Final = 5.0
"""Maximum time, while requests are made, for which counts are in memory only."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Traffic:
    """Traffic of the link: requests, and bytes of headers and bodies as sent.

    `answers` is the number of requests that an omega21 server answered without an error.
    """

    requests: int = 0
    answers: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class TrafficBook:
    """Adds one client's traffic to this machine's count of the month."""

    def __init__(self, host: str, traffic: Traffic, *, path: Path | None = None) -> None:
        self.host = host
        self._traffic = traffic
        self._ledger = TrafficLedger(path or default_path())
        self._written = Counted()
        self._next_at = 0.0

    def write_when_due(self) -> None:
        """Write the counts, unless that was done a moment ago."""
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + WRITE_SECONDS
            self.write()

    def write(self) -> None:
        """Add the new counts; after a failure they are added the next time."""
        traffic = self._traffic
        counted = Counted(traffic.requests, traffic.bytes_sent, traffic.bytes_received)
        new = counted - self._written
        if new == Counted():
            return
        try:
            self._ledger.add(self.host, new)
            self._written = counted
        except (OSError, sqlite3.Error) as error:
            _log.warning("the traffic of this month is not written: %s", error)

    def month(self) -> Counted:
        """Return this machine's traffic with the server this month, including this client's."""
        self.write()
        try:
            return self._ledger.read(self.host)
        except (OSError, sqlite3.Error) as error:
            _log.warning("the traffic of this month cannot be read: %s", error)
            return Counted()


def default_path() -> Path:
    """Return the file of this machine's counts, beside the run folders."""
    return platformdirs.user_data_path("omega21", appauthor=False) / "traffic.sqlite"


def joined(theirs: MonthTraffic, ours: Counted, *, host: str) -> MonthTraffic:
    """Return the larger of two counts of the same month: neither side counts everything.

    The server's count starts with its data folder, and other machines may use the same tunnel. A
    tunnel that the server does not know is recognised by its `host`.
    """
    return month_traffic(
        tunnel_of(host) if theirs.tunnel == "none" else theirs.tunnel,
        month=theirs.month,
        requests=max(theirs.requests, ours.requests),
        bytes_in=max(theirs.bytes_in, ours.bytes_in),
        bytes_out=max(theirs.bytes_out, ours.bytes_out),
    )
