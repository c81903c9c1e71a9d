"""Replies of intermediaries: tunnels, proxies and routers that answer in place of the server.

A closed tunnel is distinguished from a server that is down behind it, and a temporary failure from
one that a person has to fix. Only the status, the headers, and Cloudflare's error number in the
body are read.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from omega21.language import _
from omega21.protocol.errors import (
    BodyTooLarge,
    NotOmega21,
    OmegaError,
    TimedOut,
    TunnelLimit,
    TunnelOffline,
    Unreachable,
)

_RATE_SECONDS: Final = 60.0
"""Wait after a rate limit without a Retry-After: ngrok's resets within a minute."""

_SERVER_DOWN: Final = frozenset({502, 503, 520, 521, 522, 523, 525, 526})
_TIMED_OUT: Final = frozenset({504, 524})
_LOGIN_NEEDED: Final = 511
_SECONDS: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


@dataclass(frozen=True, slots=True)
class _Reply:
    """The parts of a reply that are inspected."""

    status: int
    headers: httpx.Headers
    media_type: str
    cloudflare_error: str | None
    retry_after: float | None


def foreign_reply(response: httpx.Response, body: bytes) -> OmegaError:
    """Return the error for a reply that is not the server's."""
    reply = _Reply(
        status=response.status_code,
        headers=response.headers,
        media_type=media_type(response),
        cloudflare_error=_cloudflare_error(response, body),
        retry_after=retry_after(response),
    )
    if code := reply.headers.get("ngrok-error-code"):
        return _ngrok(code[:40], reply)
    return _tunnel_or_proxy(reply) or _something_else(response, reply)


def media_type(response: httpx.Response) -> str:
    """Return a reply's content type without its parameters; empty when it has none."""
    text: str = response.headers.get("content-type", "")
    return text.partition(";")[0].strip().lower()


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of a Retry-After header, given as a number or as a date."""
    text = response.headers.get("retry-after")
    if text is None:
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None


def _ngrok(code: str, reply: _Reply) -> OmegaError:
    """Return the error for ngrok's own error code, which is in a header."""
    if reply.status == 429:
        return _too_fast(code, reply)
    if code in _NGROK:
        return _NGROK[code](code, reply)
    return Unreachable(
        _("the tunnel answered for the server: {code}, HTTP {status}").format(
            code=code, status=reply.status
        ),
        hint=_("look it up at https://ngrok.com/docs/errors/{page}").format(page=code.lower()),
        retry_after=reply.retry_after,
    )


def _no_more_bandwidth(code: str, _reply: _Reply) -> OmegaError:
    return TunnelLimit(
        _("the tunnel's bandwidth of this month is used up ({code})").format(code=code)
    )


def _no_more_requests(code: str, _reply: _Reply) -> OmegaError:
    return TunnelLimit(
        _("the tunnel's requests of this month are used up ({code})").format(code=code)
    )


def _offline(code: str, reply: _Reply) -> OmegaError:
    return TunnelOffline(
        _("the tunnel is offline, nothing runs behind this address ({code})").format(code=code),
        retry_after=reply.retry_after,
    )


def _no_account(code: str, _reply: _Reply) -> OmegaError:
    return TunnelOffline(
        _("the tunnel was not opened: ngrok asks for its account's token ({code})").format(
            code=code
        ),
        hint=_("give the server's machine the token as NGROK_AUTHTOKEN and start it again"),
    )


def _warning_page(code: str, _reply: _Reply) -> OmegaError:
    return NotOmega21(
        _("the tunnel shows the warning that it has for browsers ({code})").format(code=code),
        hint=_("something on the network path removes the header ngrok-skip-browser-warning"),
    )


def _tunnel_or_proxy(reply: _Reply) -> OmegaError | None:
    """Return the error for a status of a proxy, including Cloudflare's 520 to 530."""
    said = f"HTTP {reply.status}"
    if reply.cloudflare_error is not None:
        said += f", error {reply.cloudflare_error}"
    if reply.status == 530:
        return _offline(said, reply)
    if reply.status == 429:
        return _too_fast(said, reply)
    if reply.status in _TIMED_OUT:
        return TimedOut(
            _("a proxy or tunnel waited too long for the server ({code})").format(code=said),
            retry_after=reply.retry_after,
        )
    if reply.status in _SERVER_DOWN:
        return _server_down(said, reply)
    if reply.status == 413:
        return BodyTooLarge(
            _(
                "a proxy or tunnel on the network path refuses requests of this size ({code})"
            ).format(code=said),
            hint=_("raise its limit (client_max_body_size in nginx) to 100 MB"),
        )
    return None


def _something_else(response: httpx.Response, reply: _Reply) -> NotOmega21:
    """Return the error for a page of neither a server nor a tunnel: a router, another service."""
    if response.has_redirect_location:
        target = reply.headers["location"]
        return NotOmega21(
            _("the address redirects to {target}").format(target=repr(target[:200])),
            hint=_(
                "give the address it redirects to; if that is a login page of your network, log "
                "in with a browser first"
            ),
        )
    if reply.status == _LOGIN_NEEDED:
        return NotOmega21(
            _("your network requires a login first (HTTP 511)"),
            hint=_("open any page in a browser, log in, then try again"),
        )
    kind = reply.media_type or _("no content type")
    return NotOmega21(
        _("HTTP {status} with {kind}, not an answer of an omega21 server").format(
            status=reply.status, kind=kind
        )
    )


def _too_fast(said: str, reply: _Reply) -> Unreachable:
    return Unreachable(
        _("the tunnel's limit on the rate of requests is reached ({code})").format(code=said),
        hint=_("wait a minute; fewer commands at once use fewer requests"),
        retry_after=_RATE_SECONDS if reply.retry_after is None else reply.retry_after,
    )


def _server_down(said: str, reply: _Reply) -> Unreachable:
    return Unreachable(
        _("the tunnel or proxy answers, the server behind it does not ({code})").format(code=said),
        hint=_("check the server: it may be starting, or have ended; start it again there"),
        retry_after=reply.retry_after,
    )


def _cloudflare_error(response: httpx.Response, body: bytes) -> str | None:
    """Return Cloudflare's own error number, from its page, its text or its JSON."""
    if "cf-ray" not in response.headers:
        return None
    text = body[:20_000].decode("utf-8", errors="replace")
    found = re.search(r"(?i)error(?:[\s_-]*code)?\"?:?\s*(?:<[^>]*>\s*)*(1\d{3})\b", text)
    return found[1] if found else None


_NGROK: Final[dict[str, Callable[[str, _Reply], OmegaError]]] = {
    "ERR_NGROK_702": _too_fast,
    "ERR_NGROK_724": _offline,
    "ERR_NGROK_725": _no_more_bandwidth,
    "ERR_NGROK_727": _no_more_requests,
    "ERR_NGROK_734": _too_fast,
    "ERR_NGROK_3200": _offline,
    "ERR_NGROK_4018": _no_account,
    "ERR_NGROK_6024": _warning_page,
    "ERR_NGROK_8012": _server_down,
}
"""The errors for ngrok's codes; any other code is shown as it is."""
