"""Where a browser's request comes from: which names are this machine's, which pages are our own.

A page of another site can make its reader's browser send requests here. It can choose neither the
`Origin` nor the `Sec-Fetch-Site` that the browser adds, and no `X-Forwarded-Host` either, which
would take a preflight that this server does not answer. So comparing them with each other tells
our own pages from others, behind a proxy too. A program that is no browser can forge all of them;
what keeps it out is that it has no token.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from omega21.language import _
from omega21.protocol.errors import ForeignOrigin

_PORTS = {"http": 80, "https": 443}
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "cf-connecting-ip")


def check_local(headers: Headers) -> None:
    """Raise ForeignOrigin unless the request is made on this machine, and by no other's page.

    What a proxy or a tunnel passed on is not, even where it says that the host is loopback.
    """
    host = headers.get("host", "")
    if not is_loopback(host):
        raise ForeignOrigin(
            _("this server does not answer for the host {host!r}").format(host=host[:80])
        )
    through = next((name for name in _PROXY_HEADERS if name in headers), None)
    if through is not None:
        raise ForeignOrigin(
            _("the request came through a proxy, which its header {through} tells").format(
                through=through
            )
        )
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        raise _foreign(origin)


def check_own_page(headers: Headers, *, certainly_browser: bool) -> None:
    """Raise ForeignOrigin unless the request comes from one of the server's own pages.

    A request that tells nothing of its origin is no browser's; one that certainly is a browser's
    has to tell.
    """
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise _foreign(origin or "another site")
    if origin is None and certainly_browser:
        raise ForeignOrigin(_("the request does not say which page it comes from"), hint="")
    if origin is not None and not _is_own(origin, headers):
        raise _foreign(origin)


def came_by_https(headers: Headers) -> bool:
    """Whether the browser speaks TLS, as the proxy that ends it says, or else the page's origin."""
    return _forwarded(headers, "x-forwarded-proto") == "https" or headers.get(
        "origin", ""
    ).lower().startswith("https://")


def is_loopback(host: str) -> bool:
    """Whether `host`, as in a header, is a name of the machine for itself."""
    try:
        name = urlsplit(f"//{host}").hostname
        return name == "localhost" or ipaddress.ip_address(name or "").is_loopback
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
    # A proxy that ends TLS may not say so, and then either does; none ends it without there being.
    if scheme == "http" and _forwarded(headers, "x-forwarded-proto") == "https":
        return False
    asked_for = _place(authority, scheme)
    hosts = (headers.get("host", ""), _forwarded(headers, "x-forwarded-host"))
    return asked_for is not None and any(_place(host, scheme) == asked_for for host in hosts)


def _place(authority: str, scheme: str) -> tuple[str, int] | None:
    """Return name and port of `name` or `name:port`; None for anything else."""
    try:
        parts = urlsplit(f"//{authority}")
        port = parts.port or _PORTS[scheme]
    except ValueError:
        return None
    if not parts.hostname or parts.netloc != authority or "@" in authority:
        return None
    return parts.hostname.lower(), port


def _forwarded(headers: Headers, name: str) -> str:
    # Each proxy on the way appends its own; the first is what the browser asked for.
    return headers.get(name, "").partition(",")[0].strip().lower()
