"""Security headers for browsers: no external resources, no framing, no caching.

There are no CORS headers: no page of another site can read a reply, or pass a preflight.
"""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from omega21.server.http.middleware import HttpMiddleware

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""On every reply. Replies for programs have no others: a tunnel's quota counts headers too."""

PAGE_HEADERS: Final = SECURITY_HEADERS | {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""On what a browser shows or loads into a page."""

_FOR_PROGRAMS: Final = "application/"  # JSON and tensors; pages, styles, scripts, images are not
_STORABLE: Final = "/static/"  # the same for everyone; the route says for how long


class SecurityHeaders(HttpMiddleware):
    """ASGI middleware that adds them, and `Cache-Control: no-store` by default."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, and add the headers to its reply."""

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # A 304 has no type, and its headers replace the cached ones.
                to_program = headers.get("content-type", "").startswith(_FOR_PROGRAMS)
                headers.update(SECURITY_HEADERS if to_program else PAGE_HEADERS)
                if not scope["path"].startswith(_STORABLE):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, send_secured)
