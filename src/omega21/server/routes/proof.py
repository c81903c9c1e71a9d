"""The call by which a caller finds out that the server knows the token, before it is sent.

It is answered to everybody, so it costs little (10 ms) and is answered ten times a second to one
peer. It helps guessing no more than a wrong token does: one request tests one guess.
"""

from fastapi import APIRouter, Request, Response

from omega21.language import _
from omega21.protocol.auth.proof import PROOF_PATH, ProveToken, TokenProof
from omega21.protocol.errors import (
    BodyTooLarge,
    InvalidRequest,
    OmegaError,
    Unavailable,
    UnsupportedEncoding,
)
from omega21.server.http.errors import problem_response, problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import reply
from omega21.server.routes.before_login import AccessHere, described_body, read_message

router = APIRouter(tags=["session"])


@router.post(
    PROOF_PATH,
    response_model=TokenProof,
    openapi_extra=described_body(ProveToken, examples.PROVE_TOKEN),
    responses=reply(examples.TOKEN_PROOF) | problems(BodyTooLarge, UnsupportedEncoding),
)
async def prove_token(request: Request, access: AccessHere) -> TokenProof | Response:
    """Prove that the server knows the token, without either side sending it; needs no token.

    One exchange of SPAKE2. A server without a token says so, and proves nothing.
    """
    try:
        share = await _read_share(request)
        if access.token is None:
            return TokenProof(token_needed=False)
        client = request.client
        wait = access.proofs.fail(client.host if client else "")
        if wait is not None:
            raise Unavailable(_("too many requests for a proof of the token"), retry_after=wait)
        proof = access.prover.answer(share)
        if proof is None:
            raise InvalidRequest(_("the share is not an element of the group"))
    except OmegaError as error:
        return problem_response(error)
    return proof


async def _read_share(request: Request) -> ProveToken:
    return await read_message(
        request,
        ProveToken,
        refused=_("the body is not a challenge"),
        hint=_('send {"share": "…"}, 512 hexadecimal digits'),
    )
