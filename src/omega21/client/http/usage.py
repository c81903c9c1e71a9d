"""What went over the link: counted while it goes, and kept by server and month on this machine.

A free tunnel is counted by its owner, whatever server stands behind it: a fresh machine behind the
same address starts its own count at zero, and this one goes on. The count is kept by the address's
host, beside the run folders. A server on loopback is behind no tunnel, and is not kept.
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
"""Longest time, while requests are made, for which what was counted is in memory alone."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Traffic:
    """What went over the link: requests, and bytes of headers and bodies as they were sent.

    `answers` counts the requests that an omega21 server answered without an error.
    """

    requests: int = 0
    answers: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class TrafficBook:
    """Adds what one client counts to what this machine exchanged with the server this month."""

    def __init__(self, host: str, traffic: Traffic, *, path: Path | None = None) -> None:
        self.host = host
        self._traffic = traffic
        self._ledger = TrafficLedger(path or default_path())
        self._written = Counted()
        self._next_at = 0.0

    def write_when_due(self) -> None:
        """Write, unless that was done a moment ago."""
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + WRITE_SECONDS
            self.write()

    def write(self) -> None:
        """Add what is new; where that fails, try again the next time."""
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
        """Return what this machine exchanged with the server this month, this client included."""
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
    """Return the larger of two counts of the same month: neither side sees all of it.

    The server's begins anew with its data folder, and other machines may use the same tunnel. One
    that the server does not know of is told by its `host`.
    """
    return month_traffic(
        tunnel_of(host) if theirs.tunnel == "none" else theirs.tunnel,
        month=theirs.month,
        requests=max(theirs.requests, ours.requests),
        bytes_in=max(theirs.bytes_in, ours.bytes_in),
        bytes_out=max(theirs.bytes_out, ours.bytes_out),
    )
