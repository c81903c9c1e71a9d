"""The doctor's checks of the path to a server below HTTP: name, connection, TLS."""

import socket
import ssl
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx

from omega21.client.diagnostics.checks import Found, NotChecked
from omega21.client.http.address import is_loopback
from omega21.client.http.transport import CONNECT_SECONDS, map_error, trusting
from omega21.language import _

_CERTIFICATE_DAYS: Final = 7


def look_at_name(address: str) -> Found:
    """Resolve the name of an address. Raises Unreachable when it has none."""
    _not_by_proxy(address)
    url = httpx.URL(address)
    try:
        found = socket.getaddrinfo(url.host, url.port or 443)
    except OSError as error:
        failure = httpx.ConnectError(str(error))
        failure.__cause__ = error
        raise map_error(failure, address) from error
    addresses = sorted({str(entry[4][0]) for entry in found})
    return Found(", ".join(addresses[:3]))


def look_at_tls(address: str, ca: Path | None) -> Found:
    """Connect, and for https do the TLS handshake and check the certificate.

    Raises what a request would raise.
    """
    _not_by_proxy(address)
    url = httpx.URL(address)
    is_https = url.scheme == "https"
    port = url.port or (443 if is_https else 80)
    try:
        with socket.create_connection((url.host, port), timeout=CONNECT_SECONDS) as plain:
            if not is_https:
                return Found(_("connected; not encrypted, the address is http://"))
            context = httpx.create_ssl_context() if ca is None else trusting(ca)
            with context.wrap_socket(plain, server_hostname=url.host) as secure:
                return _certificate(secure)
    except OSError as error:
        # The same message as that of a failed request.
        failure = httpx.ConnectError(str(error))
        failure.__cause__ = error
        raise map_error(failure, address) from error


def _certificate(secure: ssl.SSLSocket) -> Found:
    certificate = secure.getpeercert() or {}
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    days = (ends - time.time()) / 86_400
    text = _("{version}, the certificate is valid until {day}").format(
        version=secure.version(), day=datetime.fromtimestamp(ends, UTC).date()
    )
    advice = _("renew the server's certificate") if days < _CERTIFICATE_DAYS else ""
    return Found(text, advice, {"days": days})


def _not_by_proxy(address: str) -> None:
    """Skip what a proxy from the environment variables would do instead of this machine."""
    url = httpx.URL(address)
    if is_loopback(address) or url.scheme not in urllib.request.getproxies():
        return
    if not urllib.request.proxy_bypass(url.host):
        raise NotChecked(_("this machine uses a proxy, which does this"))
