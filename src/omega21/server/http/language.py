"""The language of the messages in a reply."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from omega21.language import accepted_language, speaking


class RequestLanguage:
    """ASGI middleware: sets the language of Accept-Language during a request.

    Without the header it is English, whatever the server's locale. Threads that work for the
    request inherit the language with the context; codes and field names never change.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with speaking(accepted_language(Headers(scope=scope).get("accept-language", ""))):
            await self.app(scope, receive, send)
