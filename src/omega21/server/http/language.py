"""The language of the messages in a reply."""

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from omega21.language import accepted_language, speaking
from omega21.server.http.middleware import HttpMiddleware


class RequestLanguage(HttpMiddleware):
    """ASGI middleware: sets the language of Accept-Language during a request.

    Without the header it is English, whatever the server's locale. Threads that work for the
    request inherit the language with the context; codes and field names never change.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request."""
        with speaking(accepted_language(Headers(scope=scope).get("accept-language", ""))):
            await self.app(scope, receive, send)
