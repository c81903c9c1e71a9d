"""Who may send source to a server: a program that has the token, over a link that hides it.

The server itself speaks plain HTTP. So a request is encrypted, or stays on this machine, where its
peer is a loopback one: the program itself, the end of an SSH forward, a tunnel's program, or a
proxy that ends TLS and says so with `X-Forwarded-Proto: https`. A peer elsewhere has reached a
listener on a network unencrypted, and whoever reads along has the token and the code.
"""

from starlette.datastructures import Headers
from starlette.types import Scope

from omega21.language import _
from omega21.protocol.errors import CodeNotAllowed
from omega21.server.auth.access import Access
from omega21.server.auth.origins import is_loopback_name

_OF_BROWSERS = ("origin", "sec-fetch-site", "sec-fetch-mode", "cookie")


def check_code_upload(access: Access, scope: Scope) -> None:
    """Raise CodeNotAllowed unless an allowed request may also bring source."""
    headers = Headers(scope=scope)
    is_bearer = access.token is None or access.means(headers) == "bearer"
    if not is_bearer or any(name in headers for name in _OF_BROWSERS):
        raise CodeNotAllowed(
            _("a browser's session sends no source"),
            hint=_("send it with the token, with `omega21 train --model FILE.py:FUNCTION`"),
        )
    peer = scope.get("client")
    forwarded = headers.get("x-forwarded-proto", "https").partition(",")[0].strip().lower()
    if peer is None or not is_loopback_name(peer[0]) or forwarded != "https":
        raise CodeNotAllowed(
            _("source is accepted over TLS or from this machine only, and this link is neither"),
            hint=_(
                "use a tunnel (`omega21 serve --tunnel auto`), `ssh -L 8000:127.0.0.1:8000`, or a "
                "proxy with TLS on the server's machine"
            ),
        )
