"""The base of ASGI middleware that handles HTTP requests."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HttpMiddleware:
    """Gives each HTTP request to `handle`, and everything else (lifespan) to the application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call `handle`, or the application."""
        await (self.handle if scope["type"] == "http" else self.app)(scope, receive, send)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; call `self.app` to forward it."""
        raise NotImplementedError
