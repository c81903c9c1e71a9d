"""Access control: by the token or a session; without a token, requests from this machine only.

Covered here
- With a token, a request needs it as `Authorization: Bearer TOKEN`, as the password of basic
  authentication (older clients, browsers), or a session's cookie (`sessions`). The token is
  compared in constant time, whatever its length. Only `GET /health`, the calls of `/session`, `POST
  /proof` (`proof`), and the dashboard's page and static files are open; they have no data.
- Guessing: after twenty wrong tokens a peer gets 429 for a while (`throttle`). A valid token is
  always accepted, so that guessing locks nobody out.
- Pages of other sites: with credentials that a browser adds by itself, a cookie or a basic
  password, a request may change something only if it comes from one of the server's own pages
  (`origins`).
- Without a token: the Host must be a loopback one, so that a name which an attacker points at
  127.0.0.1 is refused (DNS rebinding); an Origin or a Sec-Fetch-Site must be that of the server's
  own page; and requests forwarded by a proxy or a tunnel are refused.
- A refusal comes before a byte of the body is read, and reveals nothing about the server.

Not covered
- Encryption: the server speaks plain HTTP; a tunnel or a proxy has to add TLS.
- A weak token that a user chose: the rate of guesses has no hard limit.
- Several users: the token gives access to everything.
- A leaked session cookie is valid until it expires, a day at most, and after a logout too if the
  server was restarted in between; it does not reveal the token.
- A flood of connections beyond the machine's capacity (`connections` limits its cost).
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Final, Literal

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from omega21.language import _
from omega21.protocol.auth.proof import PROOF_PATH, Prover
from omega21.protocol.errors import ForeignOrigin, OmegaError, TooManyAttempts, Unauthorized
from omega21.server.auth.origins import check_local, check_own_page
from omega21.server.auth.sessions import SessionTokens
from omega21.server.auth.throttle import Throttle
from omega21.server.http.connections import ON_AUTHENTICATED
from omega21.server.http.errors import problem_response
from omega21.server.http.middleware import HttpMiddleware
from omega21.server.http.unauthenticated import mark_unauthenticated

SESSION_COOKIE: Final = "omega21_session"
SESSION_PATH: Final = "/session"

_HEALTH: Final = "/health"
_PAGE: Final = "/"
_STATIC: Final = "/static/"
_READING: Final = frozenset({"GET", "HEAD"})
_CHALLENGE: Final = 'Bearer realm="omega21"'

Means = Literal["bearer", "basic", "cookie"]
"""The credentials of a request; the last two are added by a browser itself."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """The access rules: the token, or without one a request from this machine."""

    token: str | None = field(default=None, repr=False)
    wrong_tokens: Throttle = field(default_factory=Throttle, repr=False)
    proofs: Throttle = field(
        default_factory=partial(
            Throttle, seconds_each=0.1, warning="many challenges from %s: answered with 503 for now"
        ),
        repr=False,
    )

    @cached_property
    def session_tokens(self) -> SessionTokens:
        """The session tokens of browsers; only with a token."""
        assert self.token is not None
        return SessionTokens(self.token)

    @cached_property
    def prover(self) -> Prover:
        """The prover that this server knows the token; only with a token."""
        assert self.token is not None
        return Prover(self.token)

    def check(self, scope: Scope) -> None:
        """Raise Unauthorized, TooManyAttempts or ForeignOrigin unless the request is allowed."""
        headers = Headers(scope=scope)
        if self.token is None:
            if scope["path"] != _HEALTH:
                check_local(headers, method=scope["method"])
        elif not is_open(scope):
            means = self.means(headers)
            if means is None:
                raise self.refusal(scope)
            if means != "bearer" and scope["method"] not in _READING:
                check_own_page(headers, certainly_browser=means == "cookie")

    def is_owner(self, scope: Scope) -> bool:
        """Whether an allowed request has credentials, or needs none."""
        if self.token is not None:
            return self.means(Headers(scope=scope)) is not None
        try:
            check_local(Headers(scope=scope), method=scope["method"])
        except ForeignOrigin:
            return False
        return True

    def means(self, headers: Headers) -> Means | None:
        """Return the valid credentials of the request; None if it has none."""
        scheme, given = _credentials(headers)
        if given is not None and self.is_token(given):
            return scheme
        cookie = session_token(headers)
        return "cookie" if cookie is not None and self.session_tokens.opens(cookie) else None

    def is_token(self, given: bytes) -> bool:
        """Whether `given` is the token; in constant time for any that is not."""
        return hmac.compare_digest(_digest(given), self._token_digest)

    def refusal(self, scope: Scope) -> Unauthorized:
        """Return why the request is refused, and count a wrong token."""
        headers = Headers(scope=scope)
        cookie = session_token(headers)
        if "authorization" not in headers:
            if cookie is None:
                return Unauthorized(_("this server needs a token"))
            if self.session_tokens.is_ours(cookie):
                return Unauthorized(
                    _("the session has ended"), hint=_("log in again with the token")
                )
        return self.wrong_token(scope)

    def wrong_token(self, scope: Scope) -> Unauthorized:
        """Count a wrong token, and return the error: TooManyAttempts after many of them."""
        client = scope.get("client")
        wait = self.wrong_tokens.fail(client[0] if client else "")
        if wait is None:
            return Unauthorized(_("this is not the server's token"))
        return TooManyAttempts(_("too many wrong tokens"), retry_after=wait)

    @cached_property
    def _token_digest(self) -> bytes:
        assert self.token is not None
        return _digest(self.token.encode())


class AccessControl(HttpMiddleware):
    """ASGI middleware that applies `Access` before a byte of the body is read."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        super().__init__(app)
        self.access = access

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or answer it with the error."""
        try:
            self.access.check(scope)
        except OmegaError as error:
            reply = problem_response(error, challenge(error, Headers(scope=scope)))
            await reply(scope, receive, send)
            return
        mark_unauthenticated(is_one=not self.access.is_owner(scope))
        if not is_open(scope):
            scope.get("extensions", {}).get(ON_AUTHENTICATED, _no_listener)()
        await self.app(scope, receive, send)


def _no_listener() -> None:
    """Used when the application is called without a listener."""


def is_open(scope: Scope) -> bool:
    """Whether the request needs no token."""
    path = scope["path"]
    if path == SESSION_PATH or (path == PROOF_PATH and scope["method"] == "POST"):
        return True
    is_page = path == _PAGE or (path.startswith(_STATIC) and ".." not in path)
    return scope["method"] in _READING and (path == _HEALTH or is_page)


def challenge(error: OmegaError, headers: Headers) -> dict[str, str]:
    """Return the WWW-Authenticate header, if a token is missing.

    Basic is not offered to a page's own script: the browser would show a password prompt over the
    page's login. Browsers name their scripts' requests by `Sec-Fetch-Mode`.
    """
    if not isinstance(error, Unauthorized):
        return {}
    by_script = headers.get("sec-fetch-mode", "navigate") != "navigate"
    return {"WWW-Authenticate": _CHALLENGE + ("" if by_script else ', Basic realm="omega21"')}


def session_token(headers: Headers) -> str | None:
    """Return the session token of the cookie, as it was sent."""
    return cookie_parser(headers.get("cookie", "")).get(SESSION_COOKIE)


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _credentials(headers: Headers) -> tuple[Literal["bearer", "basic"] | None, bytes | None]:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    # Headers are decoded as Latin-1, which preserves the bytes: usually UTF-8.
    given = credentials.strip().encode("latin-1")
    match scheme.lower():
        case "bearer":
            return "bearer", given
        case "basic":
            try:
                _user, separator, password = base64.b64decode(given).partition(b":")
            except binascii.Error:
                return None, None
            return "basic", password if separator else None
        case _:
            return None, None
