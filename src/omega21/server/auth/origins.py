"""The origin of a browser's request: loopback names, and the server's own pages.

A page of another site can make a browser send requests here. It can choose neither the
`Origin` nor the `Sec-Fetch-Site` that the browser adds, and no `X-Forwarded-Host` either, which
would take a preflight that this server does not answer. So comparing them identifies the
server's own pages, behind a proxy too. A program that is not a browser can forge all of them; it
needs a token.
"""

import ipaddress
import re
from typing import Final

from starlette.datastructures import Headers

from omega21.language import _
from omega21.protocol.errors import ForeignOrigin

_PORTS = {"http": 80, "https": 443}
_AUTHORITY: Final = re.compile(
    r"(?:(?P<name>[a-z0-9_.-]+)|\[(?P<v6>[0-9a-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?"
)
"""Host and port in `Host` and `Origin`, in lower case."""

_ALIKE: Final = frozenset({"same-origin", "none"})  # this page itself, or the reader's own typing
_READING: Final = frozenset({"GET", "HEAD"})
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "cf-connecting-ip")


def check_local(headers: Headers, *, method: str) -> None:
    """Raise ForeignOrigin unless a request is from this machine, and not from another site's page.

    Requests forwarded by a proxy or a tunnel are refused, even with a loopback host. Another site's
    page may only link to ours.
    """
    host = headers.get("host", "")
    if not is_loopback(host):
        raise ForeignOrigin(
            _("this server does not answer for the host {host!r}").format(host=host[:80])
        )
    through = next((name for name in _PROXY_HEADERS if name in headers), None)
    if through is not None:
        raise ForeignOrigin(
            _("the request came through a proxy, as its header {through} shows").format(
                through=through
            )
        )
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        raise _foreign(origin)
    follows_link = method in _READING and headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site", "none") not in _ALIKE and not follows_link:
        raise _foreign(origin or "another site")


def check_own_page(headers: Headers, *, certainly_browser: bool) -> None:
    """Raise ForeignOrigin unless the request comes from one of the server's own pages.

    A request without an origin is not a browser's; a request that certainly is a browser's must
    have one.
    """
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "none") not in _ALIKE:
        raise _foreign(origin or "another site")
    if origin is None and certainly_browser:
        raise ForeignOrigin(_("the request does not say which page it comes from"), hint="")
    if origin is not None and not _is_own(origin, headers):
        raise _foreign(origin)


def came_by_https(headers: Headers) -> bool:
    """Whether the browser used TLS, according to the proxy that ends it, or the page's origin."""
    return _forwarded(headers, "x-forwarded-proto") == "https" or headers.get(
        "origin", ""
    ).lower().startswith("https://")


def is_loopback(host: str) -> bool:
    """Whether the `host` of a header is a loopback name."""
    place = _place(host, "http")
    return place is not None and is_loopback_name(place[0])


def is_loopback_name(name: str) -> bool:
    """Whether a name or an address without a port is a loopback one."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _foreign(origin: str) -> ForeignOrigin:
    return ForeignOrigin(
        _("a page of {origin!r} may not call this server").format(origin=origin[:80]),
        hint=_("open the server's own page"),
    )


def _is_own(origin: str, headers: Headers) -> bool:
    scheme, _, authority = origin.lower().partition("://")
    if scheme not in _PORTS:  # such as "null"
        return False
    # A proxy that terminates TLS may not say so; then either scheme is accepted.
    if scheme == "http" and _forwarded(headers, "x-forwarded-proto") == "https":
        return False
    asked_for = _place(authority, scheme)
    hosts = (headers.get("host", ""), _forwarded(headers, "x-forwarded-host"))
    return asked_for is not None and any(_place(host, scheme) == asked_for for host in hosts)


def _place(authority: str, scheme: str) -> tuple[str, int] | None:
    """Return host and port, if the text has nothing else; None otherwise.

    Parsed by its own grammar and not as part of a URL: a user, a path, or a backslash that some
    treat as a slash makes one name look like another.
    """
    found = _AUTHORITY.fullmatch(authority.lower())
    port = int(found["port"] or _PORTS[scheme]) if found is not None else 0
    if found is None or port > 65_535:
        return None
    if found["name"] is not None:
        return found["name"], port
    try:
        return str(ipaddress.IPv6Address(found["v6"])), port
    except ValueError:
        return None


def _forwarded(headers: Headers, name: str) -> str:
    # Each proxy appends its own; the first one is the browser's.
    return headers.get(name, "").partition(",")[0].strip().lower()
