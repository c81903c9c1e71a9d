"""Proxies and certificates from environment variables: used, or reported as invalid."""

import os
from collections.abc import Callable, Iterator
from typing import Final
from urllib.request import getproxies, proxy_bypass

import httpx

from omega21.client.http.address import is_loopback
from omega21.language import _
from omega21.protocol.errors import InvalidRequest, OmegaError, Unreachable
from omega21.protocol.printable import printable

_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def by_environment(make: Callable[[], httpx.AsyncClient]) -> httpx.AsyncClient:
    """Create an HTTP client from the environment variables.

    Raises InvalidRequest, naming the invalid one.
    """
    try:
        return make()
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        names = _CERTIFICATES if isinstance(error, OSError) else (*_PROXIES, "NO_PROXY")
        named = ", ".join(f"{name}={shown(value)}" for name, value in _given(names))
        raise InvalidRequest(
            _("invalid environment variables, {variables}: {error}").format(
                variables=named or ", ".join(names), error=printable(str(error), most=300)
            ),
            hint=_("correct that variable, or remove it with `unset`"),
        ) from error


def shown(value: str) -> str:
    """Return a proxy's address for display: without user name and password."""
    scheme, mark, rest = value.rpartition("://")
    return printable(f"{scheme}{mark}{rest.rpartition('@')[2]}", most=200)


def proxy_fault(error: Exception, address: str) -> OmegaError | None:
    """Return the error for a failed proxy on the way to `address`; None if there is no proxy."""
    if not isinstance(error, httpx.NetworkError | httpx.ConnectTimeout | httpx.ProxyError):
        return None
    proxy = None if is_loopback(address) else _proxy_of(address)
    if proxy is None:
        return None
    if isinstance(error, httpx.ProxyError) and str(error).startswith("407"):
        hint = _("put your name and password into it: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT")
    else:
        hint = _("check HTTPS_PROXY and ALL_PROXY, or name the server's host in NO_PROXY")
    return Unreachable(
        _("{address}: the proxy {proxy} on the way there failed ({error})").format(
            address=address, proxy=shown(proxy), error=printable(str(error), most=200)
        ),
        hint=hint,
    )


def _given(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        for spelling in (name, name.lower()):
            value = os.environ.get(spelling)
            if value and not (name in _CERTIFICATES and os.access(value, os.R_OK)):
                yield spelling, value


def _proxy_of(address: str) -> str | None:
    url, proxies = httpx.URL(address), getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return None if proxy is None or proxy_bypass(url.host) else proxy
