"""Who may call: a token, or loopback without one.

Covered here
- With a token: every call but `GET /health` needs it, as `Authorization: Bearer TOKEN` or as the
  password of basic authentication (older clients, browsers); compared in constant time.
- Without a token: the Host must be a loopback one, so that a name which an attacker points at
  127.0.0.1 is refused (DNS rebinding), and an Origin, which browsers send, must be the server's
  own, so that a web page cannot make its reader's browser train.

Not covered yet
- Guessing: no delay, no lock-out, no limit on the rate of failures.
- A browser that keeps the token as a basic password sends it along from other sites' pages.
- Encryption: the server speaks plain HTTP; a tunnel or a proxy has to add TLS.
"""

import base64
import binascii
import hmac
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from omega21.protocol.errors import ForeignOrigin, OmegaError, Unauthorized
from omega21.server.problems import problem_response

OPEN_PATHS = frozenset({"/health"})


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a request has to show; without a token, that it comes from this machine."""

    token: str | None = field(default=None, repr=False)

    def check(self, path: str, headers: Headers) -> None:
        """Raise Unauthorized or ForeignOrigin unless the request may go on."""
        if path in OPEN_PATHS:
            return
        if self.token is None:
            _check_local(headers)
        else:
            _check_token(self.token, headers)


class AccessControl:
    """ASGI middleware that refuses what `Access` refuses, before a byte of the body is read."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with the problem."""
        if scope["type"] == "http":
            try:
                self.access.check(scope["path"], Headers(scope=scope))
            except OmegaError as error:
                await problem_response(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _check_token(token: str, headers: Headers) -> None:
    given = _given_token(headers.get("authorization", ""))
    if given is None:
        raise Unauthorized("this server needs a token")
    if not hmac.compare_digest(given, token.encode()):
        raise Unauthorized("this is not the server's token")


def _given_token(authorization: str) -> bytes | None:
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip().encode()
        case "basic":
            try:
                _user, separator, password = base64.b64decode(credentials).partition(b":")
            except (binascii.Error, ValueError):
                return None
            return password if separator else None
        case _:
            return None


def _check_local(headers: Headers) -> None:
    host = headers.get("host", "")
    if not _is_loopback(host):
        raise ForeignOrigin(f"this server does not answer for the host {host[:80]!r}")
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        raise ForeignOrigin(f"a page of {origin[:80]!r} may not call this server")


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
        return name == "localhost" or ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False


def is_loopback_address(host: str) -> bool:
    """Whether binding to `host` keeps other machines out."""
    return _is_loopback(f"[{host}]" if ":" in host else host)
