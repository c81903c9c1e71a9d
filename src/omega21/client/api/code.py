"""The user's source: upload by content, download, what a server allows and offers."""

from collections.abc import Sequence
from typing import Final

from omega21.client.api.endpoint import Endpoint
from omega21.client.http.transport import Request
from omega21.protocol.tasks.code import (
    CODE_MEDIA_TYPE,
    MAX_CODE_BYTES,
    CodeReply,
    CodeStored,
    MissingCodeReply,
    MissingCodeRequest,
)

_LARGEST: Final = MAX_CODE_BYTES + 2**20


class Code(Endpoint):
    """Calls about source."""

    async def describe(self) -> CodeReply:
        """Return which source the server allows, and which it offers itself."""
        return await self._call(CodeReply, "GET", "/code")

    async def put(self, sha256: str, body: bytes) -> CodeStored:
        """Upload a source under its digest; on the server's disk when it returns.

        Raises CodeNotAllowed, InvalidCode, StorageFull.
        """
        headers = {"Content-Type": CODE_MEDIA_TYPE}
        return await self._call(CodeStored, "PUT", f"/code/{sha256}", headers=headers, body=body)

    async def get(self, sha256: str) -> bytes:
        """Return the body of a source. Raises UnknownCode."""
        request = Request(method="GET", path=f"/code/{sha256}", max_bytes=_LARGEST)
        return (await self._transport.send(request)).body

    async def missing(self, code: Sequence[str]) -> list[str]:
        """Return which of these sources the server lacks, in order."""
        body = MissingCodeRequest(code=list(code))
        return (await self._call(MissingCodeReply, "POST", "/code/missing", body=body)).missing
