"""What stands between a client and a server: a proxy that does harm, a server that talks nonsense.

Both are plain TCP on loopback, in the event loop of the test.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

Fault = Literal["none", "drop", "cut", "reset", "short", "late", "twice", "again"]
"""What happens to a request.

none: nothing. drop: the server acts, its reply is lost. cut: half of the reply arrives. reset: the
connection breaks before the server hears of it. short: half of the request arrives. late: it waits
on its way, and others overtake it. twice: the server gets it twice at the same time. again: a copy
comes once more, after later requests.
"""

FAULTS: tuple[Fault, ...] = ("drop", "cut", "reset", "short", "late", "twice", "again")

LATE_SECONDS = 0.1

Choose: TypeAlias = Callable[["ProxiedRequest"], Fault]


@dataclass(frozen=True)
class ProxiedRequest:
    """A request as it came: its method and path, and its bytes."""

    method: str
    path: str
    head: bytes
    body: bytes


class FaultProxy:
    """Forwards to the server at `port`, request by request, with the faults that `choose` names.

    `port` may change, as when a server is replaced. `faults` counts what was done.
    """

    def __init__(self, port: int, choose: Choose) -> None:
        self.port = port
        self.choose = choose
        self.faults: Counter[Fault] = Counter()
        self.requests: list[ProxiedRequest] = []
        self.address = ""
        self._late: list[ProxiedRequest] = []
        self._under_way: set[asyncio.Task[None]] = set()  # the event loop's own references are weak

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            request = await _read_request(reader)
            if request is not None:
                await self._pass_on(request, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()  # either side is gone
        finally:
            writer.close()

    async def end(self) -> None:
        """Give up the requests that are still under way."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _pass_on(self, request: ProxiedRequest, writer: asyncio.StreamWriter) -> None:
        fault = self.choose(request)
        self.faults[fault] += 1
        self.requests.append(request)
        late, self._late = self._late, []
        for copy in late:
            await self._ask(copy.head + copy.body)
        if fault == "reset":
            writer.transport.abort()
            return
        if fault == "short":
            whole = request.head + request.body
            await self._ask(whole[: len(request.head) + len(request.body) // 2], half=True)
            writer.transport.abort()
            return
        if fault == "late":
            await asyncio.sleep(LATE_SECONDS)
        asked = self._ask(request.head + request.body)
        if fault == "twice":
            reply, _ = await asyncio.gather(asked, self._ask(request.head + request.body))
        else:
            reply = await asked
        if fault == "again":
            self._late.append(request)
        if fault == "drop":
            writer.transport.abort()
            return
        writer.write(reply[: len(reply) // 2] if fault == "cut" else reply)
        await writer.drain()

    async def _ask(self, data: bytes, *, half: bool = False) -> bytes:
        """Send bytes to the server over a connection of their own and return its whole reply."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            return b"" if half else await reader.read()
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> ProxiedRequest | None:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ")
    headers = {
        name.lower(): text.strip()
        for name, _, text in (line.partition(":") for line in lines[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    # One request a connection: the server closes after its reply, which ends there.
    kept = [line for line in lines[1:-2] if not line.lower().startswith("connection:")]
    head = "\r\n".join([lines[0], *kept, "Connection: close", "", ""]).encode("latin-1")
    return ProxiedRequest(method, path, head, body)


def random_faults(seed: int, *, share: float, kinds: Sequence[Fault] = FAULTS) -> Choose:
    """Choose one of `kinds` for this share of the requests, the same ones for the same seed."""
    generator = random.Random(seed)

    def choose(_: ProxiedRequest) -> Fault:
        return generator.choice(kinds) if generator.random() < share else "none"

    return choose


@asynccontextmanager
async def fault_proxy(port: int, choose: Choose) -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of the server at `port`; its address is `proxy.address`."""
    proxy = FaultProxy(port, choose)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        try:
            yield proxy
        finally:
            await proxy.end()


@dataclass
class Canned:
    """A server that gives prepared replies, one a connection, the last one again and again."""

    replies: list[bytes]
    address: str = ""
    requests: list[bytes] | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests = [*(self.requests or []), head]
        writer.write(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])
        await writer.drain()
        writer.close()


def reply(status: int, body: str, media_type: str = "application/json", *more: str) -> bytes:
    """Write an HTTP reply as bytes; `more` are further header lines."""
    data = body.encode()
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(data)}",
        "Connection: close",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data


@asynccontextmanager
async def canned(*replies: bytes) -> AsyncIterator[Canned]:
    """Run a server that gives these replies."""
    given = Canned(list(replies))
    server = await asyncio.start_server(given.serve, "127.0.0.1", 0)
    given.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield given
