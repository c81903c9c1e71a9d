"""Who may call: whoever shows the token or a session made with it; without a token, this machine.

Covered here
- With a token, a request needs it as `Authorization: Bearer TOKEN`, as the password of basic
  authentication (older clients, browsers), or as a session's cookie (`sessions`). The token
  is compared in constant time, whatever its length. Open are only `GET /health`, the calls
  of `/session`, `POST /proof` (`proof`), and the dashboard's page and static files, which hold no
  data.
- Guessing: after twenty wrong tokens a peer is answered 429 until a while has passed (`attempts`).
  The right token is looked at first, so that nobody is locked out by somebody else's guesses.
- Pages of other sites: what a browser sends along by itself, a cookie or a basic password, changes
  something only where the request comes from one of the server's own pages (`origins`).
- Without a token: the Host must be a loopback one, so that a name which an attacker points at
  127.0.0.1 is refused (DNS rebinding); what browsers send along, an Origin or a Sec-Fetch-Site,
  must tell of the server's own page; and nothing that a proxy or a tunnel passed on is answered.
- What is refused is refused before a byte of the body is read, and says nothing of the server.

Not covered
- Encryption: the server speaks plain HTTP; a tunnel or a proxy has to add TLS.
- A token that somebody chose and others can guess: the rate of guesses has no hard bound.
- Several users: whoever has the token may do everything.
- A session's cookie that leaks opens until it ends, a day at most, and longer than a logout if the
  server was started again in between; it does not give the token away.
- A flood of connections beyond what the machine takes in (`connections` bounds what it costs).
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
from omega21.server.auth.origins import check_local, check_own_page, is_loopback_name
from omega21.server.auth.sessions import SessionTokens
from omega21.server.auth.throttle import Throttle
from omega21.server.http.connections import ON_AUTHENTICATED
from omega21.server.http.errors import problem_response
from omega21.server.http.unauthenticated import mark_unauthenticated

SESSION_COOKIE: Final = "omega21_session"
SESSION_PATH: Final = "/session"

_HEALTH: Final = "/health"
_PAGE: Final = "/"
_STATIC: Final = "/static/"
_READING: Final = frozenset({"GET", "HEAD"})
_CHALLENGE: Final = 'Bearer realm="omega21"'

Means = Literal["bearer", "basic", "cookie"]
"""What a request was let in by; the last two a browser sends by itself."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a request has to show; without a token, that it comes from this machine."""

    token: str | None = field(default=None, repr=False)
    attempts: Throttle = field(default_factory=Throttle, repr=False)
    proofs: Throttle = field(
        default_factory=partial(
            Throttle, seconds_each=0.1, warning="many challenges from %s: answered with 503 for now"
        ),
        repr=False,
    )

    @cached_property
    def session_tokens(self) -> SessionTokens:
        """The session tokens of browsers; only where there is a token."""
        assert self.token is not None
        return SessionTokens(self.token)

    @cached_property
    def prover(self) -> Prover:
        """What proves that the token is known here; only where there is one."""
        assert self.token is not None
        return Prover(self.token)

    def check(self, scope: Scope) -> None:
        """Raise Unauthorized, TooManyAttempts or ForeignOrigin unless the request may go on."""
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
        """Whether a request that may go on shows what `check` asks for where it does ask."""
        if self.token is not None:
            return self.means(Headers(scope=scope)) is not None
        try:
            check_local(Headers(scope=scope), method=scope["method"])
        except ForeignOrigin:
            return False
        return True

    def means(self, headers: Headers) -> Means | None:
        """Tell by what the request is let in, whatever else it carries; None for nothing."""
        scheme, given = _credentials(headers)
        if given is not None and self.is_token(given):
            return scheme
        ticket = session_token(headers)
        return "cookie" if ticket is not None and self.session_tokens.opens(ticket) else None

    def is_token(self, given: bytes) -> bool:
        """Whether `given` is the token: in the same time for any that is not."""
        return hmac.compare_digest(_digest(given), self._token_digest)

    def refusal(self, scope: Scope) -> Unauthorized:
        """Return why the request is refused, and count it where something wrong was tried."""
        headers = Headers(scope=scope)
        ticket = session_token(headers)
        if "authorization" not in headers:
            if ticket is None:
                return Unauthorized(_("this server needs a token"))
            if self.session_tokens.is_ours(ticket):
                return Unauthorized(
                    _("the session has ended"), hint=_("log in again with the token")
                )
        return self.wrong_token(scope)

    def wrong_token(self, scope: Scope) -> Unauthorized:
        """Count a wrong token, and return what to answer: TooManyAttempts after many of them."""
        client = scope.get("client")
        wait = self.attempts.fail(client[0] if client else "")
        if wait is None:
            return Unauthorized(_("this is not the server's token"))
        return TooManyAttempts(_("too many wrong tokens"), retry_after=wait)

    @cached_property
    def _token_digest(self) -> bytes:
        assert self.token is not None
        return _digest(self.token.encode())


class AccessControl:
    """ASGI middleware that refuses what `Access` refuses, before a byte of the body is read."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with the problem."""
        if scope["type"] == "http":
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
    """Called where the application is called without one."""


def is_open(scope: Scope) -> bool:
    """Whether the request needs no token."""
    path = scope["path"]
    if path == SESSION_PATH or (path == PROOF_PATH and scope["method"] == "POST"):
        return True
    is_page = path == _PAGE or (path.startswith(_STATIC) and ".." not in path)
    return scope["method"] in _READING and (path == _HEALTH or is_page)


def challenge(error: OmegaError, headers: Headers) -> dict[str, str]:
    """Return the header that says how to show a token, where that is what is missing.

    Basic is not offered to a page's own script: the browser would ask for a password over the
    page's way of doing so. Browsers name their scripts' requests by `Sec-Fetch-Mode`.
    """
    if not isinstance(error, Unauthorized):
        return {}
    by_script = headers.get("sec-fetch-mode", "navigate") != "navigate"
    return {"WWW-Authenticate": _CHALLENGE + ("" if by_script else ', Basic realm="omega21"')}


def session_token(headers: Headers) -> str | None:
    """Return the ticket in the session's cookie, as it was sent."""
    return cookie_parser(headers.get("cookie", "")).get(SESSION_COOKIE)


def is_loopback_address(host: str) -> bool:
    """Whether binding to `host` keeps other machines out."""
    return is_loopback_name(host)


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _credentials(headers: Headers) -> tuple[Literal["bearer", "basic"] | None, bytes | None]:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    # Headers are read as Latin-1, which gives back the bytes that were sent: UTF-8, as a rule.
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
