"""A browser's session: log in with the token, log out, read its state.

The cookie is HttpOnly and SameSite=Strict, and contains a session token that expires
(`auth.sessions`), never the server's token.
"""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from omega21.language import _
from omega21.protocol.auth.session import LogIn, SessionState
from omega21.protocol.errors import (
    BodyTooLarge,
    OmegaError,
    UnsupportedEncoding,
)
from omega21.server.auth.access import (
    SESSION_COOKIE,
    SESSION_PATH,
    challenge,
    session_token,
)
from omega21.server.auth.origins import came_by_https, check_own_page
from omega21.server.auth.sessions import MAX_AGE_SECONDS
from omega21.server.http.errors import problem_response, problems
from omega21.server.openapi import examples
from omega21.server.openapi.examples import reply
from omega21.server.routes.before_login import AccessHere, described_body, read_message

router = APIRouter(tags=["session"])

_NOTHING: dict[int | str, dict[str, Any]] = {204: {"description": "Done"}}


@router.post(
    SESSION_PATH,
    status_code=204,
    response_class=Response,
    openapi_extra=described_body(LogIn, examples.LOG_IN),
    responses=_NOTHING | problems(BodyTooLarge, UnsupportedEncoding),
)
async def log_in(request: Request, access: AccessHere) -> Response:
    """Log a browser in: a valid token sets the cookie `omega21_session` for a day.

    A server without a token has no login and sets no cookie.
    """
    try:
        check_own_page(request.headers, certainly_browser=False)
        login = await _read_login(request)
        if access.token is not None and not access.is_token(login.token.encode()):
            raise access.wrong_token(request.scope)
    except OmegaError as error:
        return problem_response(error, challenge(error, request.headers))
    done = Response(status_code=204)
    if access.token is not None:
        done.set_cookie(
            SESSION_COOKIE,
            access.session_tokens.issue(),
            max_age=MAX_AGE_SECONDS,
            **_attributes(request.headers),
        )
    return done


@router.delete(
    SESSION_PATH, status_code=204, response_class=Response, responses=_NOTHING | problems()
)
async def log_out(request: Request, access: AccessHere) -> Response:
    """Log a browser out: its cookie becomes invalid."""
    session = session_token(request.headers)
    done = Response(status_code=204)
    if access.token is not None and session is not None:
        check_own_page(request.headers, certainly_browser=True)
        access.session_tokens.revoke(session)
        done.delete_cookie(SESSION_COOKIE, **_attributes(request.headers))
    return done


@router.get(SESSION_PATH, responses=reply(examples.SESSION_STATE) | problems())
async def get_session(request: Request, access: AccessHere) -> SessionState:
    """Return whether a login is needed, and whether this request has one; needs no token."""
    if access.token is None:
        return SessionState(login_needed=False, logged_in=True)
    return SessionState(login_needed=True, logged_in=access.means(request.headers) is not None)


async def _read_login(request: Request) -> LogIn:
    return await read_message(
        request,
        LogIn,
        refused=_("the body is not a login"),
        hint=_('send {"token": "…"}, with the server\'s token'),
    )


def _attributes(headers: Headers) -> dict[str, Any]:
    return {
        "path": "/",
        "httponly": True,
        "samesite": "strict",
        "secure": came_by_https(headers),
    }
