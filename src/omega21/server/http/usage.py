"""Traffic of the server's port: requests and bytes, by calendar month.

Bodies are counted exactly; request lines, status lines and headers in their HTTP/1.1 form. The
overhead of TLS and TCP is not included.
"""

import asyncio
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omega21.data.usage import Counted, TrafficLedger
from omega21.protocol.link.tunnels import TunnelKind
from omega21.protocol.link.usage import MonthTraffic, month_traffic
from omega21.server.http.middleware import HttpMiddleware

TRAFFIC_FILE: Final = "traffic.sqlite"
"""In the data folder."""

WRITE_SECONDS: Final = 5.0
"""Maximum time for which counts are in memory only."""

_HERE: Final = "this server"
_LINES: Final = len(" HTTP/1.1\r\n\r\n") + 1  # of a request, besides its method and target
_STATUS_LINE: Final = len("HTTP/1.1 200 OK\r\n\r\n")

logger = logging.getLogger(__name__)


class TrafficMeter:
    """Counts in memory, and adds the counts to the month's file every few seconds.

    `passed` is called from one event loop; the other methods from any thread.
    """

    def __init__(self, data_dir: Path, *, tunnel: TunnelKind) -> None:
        self.tunnel = tunnel
        self._ledger = TrafficLedger(data_dir / TRAFFIC_FILE)
        self._lock = threading.Lock()
        self._pending = Counted()
        self._is_write_due = False

    def passed(self, *, requests: int = 0, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Count, and schedule a write."""
        with self._lock:
            self._pending += Counted(requests, bytes_in, bytes_out)
            is_due, self._is_write_due = self._is_write_due, True
        if not is_due:
            loop = asyncio.get_running_loop()
            loop.call_later(WRITE_SECONDS, lambda: loop.run_in_executor(None, self.write))

    def write(self) -> None:
        """Add the counts in memory to the file; log a failure and keep them in memory."""
        with self._lock:
            pending, self._pending, self._is_write_due = self._pending, Counted(), False
        if pending == Counted():
            return
        try:
            self._ledger.add(_HERE, pending)
        except (OSError, sqlite3.Error) as error:
            logger.warning("the traffic of this month is not written: %s", error)
            with self._lock:
                self._pending += pending

    def month(self) -> MonthTraffic:
        """Return this month's traffic, and what remains of the tunnel's limits."""
        try:
            written = self._ledger.read(_HERE)
        except (OSError, sqlite3.Error) as error:
            logger.warning("the traffic of this month cannot be read: %s", error)
            written = Counted()
        with self._lock:
            counted = written + self._pending
        return month_traffic(
            self.tunnel,
            month=self._ledger.month(),
            requests=counted.requests,
            bytes_in=counted.bytes_in,
            bytes_out=counted.bytes_out,
        )


class TrafficCount(HttpMiddleware):
    """ASGI middleware, the outermost: counts each request and its reply."""

    def __init__(self, app: ASGIApp, meter: TrafficMeter) -> None:
        super().__init__(app)
        self.meter = meter

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, and count its bytes."""
        meter = self.meter

        async def receive_counted() -> Message:
            message = await receive()
            if body := message.get("body"):
                meter.passed(bytes_in=len(body))
            return message

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                meter.passed(bytes_out=_STATUS_LINE + _header_bytes(message.get("headers", ())))
            elif body := message.get("body"):
                meter.passed(bytes_out=len(body))
            await send(message)

        meter.passed(requests=1, bytes_in=_head_bytes(scope))
        await self.app(scope, receive_counted, send_counted)


def _head_bytes(scope: Scope) -> int:
    target = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) + 1
    return len(scope["method"]) + target + _LINES + _header_bytes(scope["headers"])


def _header_bytes(headers: Any) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)
