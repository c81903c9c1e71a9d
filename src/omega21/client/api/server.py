"""The server itself: its log, and the rate of the link to it."""

from omega21.client.api.endpoint import Endpoint
from omega21.client.http.transport import Request
from omega21.protocol.link.probe import LINK_MEDIA_TYPE
from omega21.protocol.logs import MAX_LOG_REPLY, LogLines


class Server(Endpoint):
    """Calls about the server itself."""

    async def logs(self, lines: int = 1000) -> LogLines:
        """Return the newest lines of the server's log, each a JSON object, oldest first."""
        return await self._call(
            LogLines, "GET", "/logs", query={"lines": lines}, max_bytes=MAX_LOG_REPLY
        )

    async def probe_link(self, *, body: bytes = b"", down: int = 0) -> None:
        """Send `body` and receive `down` bytes, to measure the link. Raises NotFound."""
        request = Request(
            method="POST",
            path="/link",
            query={"down": down},
            headers={"Content-Type": LINK_MEDIA_TYPE},
            body=body,
            max_bytes=down,
        )
        await self._transport.send(request)
