"""The language in which a request is answered: what is said to a person in the reply."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from omega21.language import accepted_language, speaking


class RequestLanguage:
    """ASGI middleware: speaks the language of Accept-Language while a request is worked on.

    Without the header it is English, wherever the server runs. Threads that work for the request
    take the language along with its context; codes and field names never change.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with speaking(accepted_language(Headers(scope=scope).get("accept-language", ""))):
            await self.app(scope, receive, send)
