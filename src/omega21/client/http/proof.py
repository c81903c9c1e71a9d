"""The proof by a server that it knows the token, before the token is sent."""

from collections.abc import Awaitable, Callable

import anyio

from omega21.language import _
from omega21.protocol.auth.proof import PROOF_PATH, Challenge, TokenProof
from omega21.protocol.errors import NotFound, Unauthorized

AskProof = Callable[[str, bytes], Awaitable[TokenProof]]
"""Sends a body to a path without the token."""


class ServerProof:
    """The proof of one server: requested once, before the first request that needs it."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._is_settled = False
        self._asking = anyio.Lock()
        self.is_proven = False

    async def settle(self, ask: AskProof) -> None:
        """Request the proof, unless that was done. Raises Unauthorized when it fails.

        A server without a token is not sent one.
        """
        if self._is_settled:
            return
        async with self._asking:
            if not self._is_settled:
                self.is_proven = await self._ask(ask)
                self._is_settled = True

    async def _ask(self, ask: AskProof) -> bool:
        challenge = Challenge(self._token)
        try:
            answer = await ask(PROOF_PATH, challenge.request.model_dump_json().encode())
        except (NotFound, Unauthorized) as error:
            raise Unauthorized(
                _("the server cannot prove that it knows the token, which was not sent"),
                hint=_("check the address; an older omega21 there has to be updated"),
            ) from error
        if answer.token_needed and not challenge.accepts(answer):
            raise Unauthorized(_("this is not the server's token"))
        return answer.token_needed
