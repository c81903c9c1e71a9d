"""Requests to the internet, with proxies and certificates from environment variables."""

from typing import Final

import httpx

from omega21.language import N_, _
from omega21.protocol.errors import TunnelNotSetUp
from omega21.protocol.printable import printable

_HINT: Final = N_("check HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR")


def outside_client(*, seconds: float, follow_redirects: bool = False) -> httpx.Client:
    """Return a client; nothing is sent yet.

    Raises TunnelNotSetUp for invalid environment variables: a proxy that is not an address or needs
    a missing package, certificates that do not exist.
    """
    try:
        return httpx.Client(timeout=seconds, follow_redirects=follow_redirects, trust_env=True)
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        raise TunnelNotSetUp(
            _("the environment variables for proxies or certificates are invalid: {error}").format(
                error=printable(str(error), most=300)
            ),
            hint=_(_HINT),
        ) from error
