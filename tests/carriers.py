"""An address like a tunnel's, behind which a server on loopback answers."""

import httpx

NGROK = "https://some-words.ngrok-free.app"


class TunnelCarrier(httpx.AsyncHTTPTransport):
    """Carries requests for any host to the server at `address`, over a real socket.

    As a tunnel does, whose own end of TLS is elsewhere.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._target = httpx.URL(address)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(
            scheme="http", host=self._target.host, port=self._target.port
        )
        return await super().handle_async_request(request)
