"""Connections on real sockets: what one may take, and that it costs nobody else's.

The listener runs in a thread, in front of a small application, with limits of fractions of a
second, so that nothing is waited for that does not come.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from omega21.server.http.connections import ON_AUTHENTICATED, Limits
from omega21.server.http.listener import Listener
from omega21.server.sockets import bind

BLOCK = bytes(2**20)


class Application:
    """Lets in what carries a cookie; `/wait` answers when told to, `/large` with 64 MB."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.waiting = threading.Semaphore(0)
        self.gone = threading.Semaphore(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if any(name == b"cookie" for name, _ in scope["headers"]):
            scope["extensions"][ON_AUTHENTICATED]()
        match scope["path"]:
            case "/wait":
                self.waiting.release()
                await self.release.wait()
            case "/large":
                await self._send_large(send)
                return
            case "/body":
                while (message := await receive()).get("more_body"):
                    pass
                if message["type"] == "http.disconnect":
                    self.gone.release()
                    return
            case "/half":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
                self.waiting.release()
                while (await receive()).get("more_body"):
                    pass
                self.gone.release()
        await send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _send_large(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(64):
            await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.gone.release()


LENGTH = (b"content-length", b"2")


class Served:
    """A listener that answers at `port`."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.errors: list[dict[str, Any]] = []
        self._ready: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        self.application = Application()
        sock = bind("127.0.0.1", 0)
        self.listener = Listener(
            self.application,
            on_listening=lambda: self._ready.set_result(sock.getsockname()[1]),
            stop_seconds=5,
            limits=self.limits,
        )
        await self.listener.serve(sockets=[sock])

    def __enter__(self) -> "Served":
        self._thread.start()
        self.port = self._ready.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.application.release.set)
        self.listener.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert self.errors == []

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@contextmanager
def served(**limits: Any) -> Iterator[Served]:
    with Served(Limits(**limits)) as running:
        yield running


def get(path: str = "/", *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]
    return "\r\n".join(lines).encode()


KNOWN = "Cookie: known"


def read_reply(connection: socket.socket) -> tuple[int, bytes]:
    """Read a reply: its status, and its body."""
    with connection.makefile("rb", buffering=0) as file:  # and not what comes after it
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline()) not in {b"\r\n", b""}:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = b""
        while len(body) < length and (more := file.read(length - len(body))):
            body += more
        return status, body


def code(body: bytes) -> str:
    problem = json.loads(body)
    assert problem["status_text"] == "error"
    return str(problem["code"])


def is_over(connection: socket.socket) -> bool:
    """Whether the other side closes without a word more."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_silent_connection_ends() -> None:
    with served(head_seconds=0.2) as there, closing(there.connect()) as connection:
        status, body = read_reply(connection)
        assert (status, code(body)) == (408, "slow_request")
        assert is_over(connection)


def test_a_head_that_drips_ends_and_an_idle_connection_does_not() -> None:
    with (
        served(head_seconds=0.2) as there,
        closing(there.connect()) as idle,
        closing(there.connect()) as slow,
        closing(there.connect()) as ahead,
    ):
        for connection in (idle, slow):
            connection.sendall(get())
            assert read_reply(connection) == (200, b"ok")
        slow.sendall(get()[:-1])
        ahead.sendall(get() + get()[:-1])
        assert read_reply(ahead) == (200, b"ok")
        for connection in (slow, ahead):
            status, body = read_reply(connection)
            assert (status, code(body)) == (408, "slow_request")
        idle.sendall(get())
        assert read_reply(idle) == (200, b"ok")


def post(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_body_that_stops_costs_its_own_request() -> None:
    with (
        served(grace_seconds=0.2) as there,
        closing(there.connect()) as slow,
        closing(there.connect()) as other,
    ):
        slow.sendall(post("/body", 1000) + b"some of it")
        status, body = read_reply(slow)
        assert (status, code(body)) == (408, "slow_request")
        assert there.application.gone.acquire(timeout=30), "the application waits on"
        other.sendall(get())
        assert read_reply(other) == (200, b"ok")


def test_a_reader_that_stops_is_cut_off() -> None:
    with served(grace_seconds=0.2) as there, closing(there.connect()) as slow:
        slow.sendall(get("/large"))
        assert there.application.gone.acquire(timeout=30), "the application waits on"
        with slow.makefile("rb") as file:
            try:
                got = len(file.read())
            except ConnectionResetError:
                got = 0
        assert got < 64 * len(BLOCK)


def test_unread_replies_hold_a_bounded_number_of_bytes() -> None:
    with served(unread=2**16) as there, closing(there.connect()) as slow:
        slow.sendall(get("/large"))
        assert there.application.gone.acquire(timeout=30)


def work_on(there: Served) -> socket.socket:
    """Open a connection with a request at work on it."""
    connection = there.connect()
    connection.sendall(get("/wait", KNOWN))
    assert there.application.waiting.acquire(timeout=30)
    return connection


def ask(connection: socket.socket, *headers: str) -> tuple[int, bytes]:
    connection.sendall(get("/", *headers))
    return read_reply(connection)


def test_unauthenticated_connections_are_closed_first_then_idle_ones_and_none_at_work() -> None:
    with served(connections=3) as there, ExitStack() as opened:

        def keep(connection: socket.socket) -> socket.socket:
            return opened.enter_context(closing(connection))

        working = [keep(work_on(there))]
        idle, unknown = keep(there.connect()), keep(there.connect())
        assert ask(idle, KNOWN) == ask(unknown) == (200, b"ok")

        working.append(keep(work_on(there)))
        assert is_over(unknown)
        assert ask(idle, KNOWN) == (200, b"ok")

        working.append(keep(work_on(there)))
        assert is_over(idle)

        status, body = read_reply(keep(there.connect()))
        assert (status, code(body)) == (429, "overloaded")

        there.loop.call_soon_threadsafe(there.application.release.set)
        assert [read_reply(connection) for connection in working] == [(200, b"ok")] * 3


HOST = b"GET / HTTP/1.1\r\nHost: x\r\n"
LONG = b"X-Long: " + b"x" * 20_000 + b"\r\n"
CHUNKS = b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
BYTES = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
NOT_PLAIN_FRAMING = (
    b"Content-Length: 4 ",
    b"Content-Length: 4\t",
    b"Content-Length:  4",
    b"Content-Length:\t4",
    b"Content-Length: 4, 4",
    b"Content-Length: 4,4",
    b"Content-Length: 4,",
    b"Content-Length: 04",
    b"Content-Length: 00",
    b"Content-Length: -0",
    b"Content-Length: 4_0",
    b"Content-Length: ",
    b"Content-Length: 4;",
    b"Content-Length: " + b"1" * 17,
    b"Content-Length: 4\r\nContent-Length: 4",
    b"Content-Length: 4\r\ncontent-length: 4",
    b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: ",
    b"Transfer-Encoding: chunked;q=1",
)
NOT_PLAIN_CHUNKS = (
    b"4 \r\nabcd\r\n0\r\n\r\n",
    b"4\t\r\nabcd\r\n0\r\n\r\n",
    b" 4\r\nabcd\r\n0\r\n\r\n",
    b"0x4\r\nabcd\r\n0\r\n\r\n",
    b"+4\r\nabcd\r\n0\r\n\r\n",
    b"-4\r\nabcd\r\n0\r\n\r\n",
    b"4\nabcd\r\n0\r\n\r\n",
    b"4\r\nabcd\n0\r\n\r\n",
    b"4\r\nabcd\r\n0\n\r\n",
    b"4\r\nabcd\r\n0\r\n\n",
    b"4\r\nabcd\r\n0\r\nA: b\n\r\n",
    b"4\r\nabcd\r\n0\r\nA: b\r\n c\r\n\r\n",
    b"4;a=b \r\nabcd\r\n0\r\n\r\n",
    b"4;a\rb\r\nabcd\r\n0\r\n\r\n",
    b"4;" + b"a" * 2000,
    b"0\r\nA: " + b"b" * 2000,
    b"000000004\r\nabcd\r\n0\r\n\r\n",
    b"\r\n4\r\nabcd\r\n0\r\n\r\n",
)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(HOST + LONG + b"\r\n", 431, id="a-long-header-at-once"),
        pytest.param(HOST + LONG, 431, id="a-long-header-without-an-end"),
        pytest.param(b"GET /" + b"x" * 20_000, 431, id="a-long-address"),
        pytest.param(HOST + b"A: b\r\n" * 101 + b"\r\n", 431, id="many-headers"),
        pytest.param(BYTES + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="cl-and-te"),
        pytest.param(BYTES + b"Content-Length: 5\r\n\r\nabcde", 400, id="two-lengths"),
        pytest.param(BYTES + b"Content-Length: +4\r\n\r\nabcd", 400, id="a-signed-length"),
        pytest.param(HOST + b"Content-Length: 0x4\r\n\r\nabcd", 400, id="a-hex-length"),
        pytest.param(CHUNKS + b"Transfer-Encoding: chunked\r\n\r\n", 400, id="te-twice"),
        pytest.param(HOST + b"Transfer-Encoding: gzip\r\n\r\n", 400, id="te-unknown"),
        pytest.param(HOST + b"Transfer-Encoding: xchunked\r\n\r\n", 400, id="te-nearly"),
        pytest.param(HOST + b"Transfer-Encoding : chunked\r\n\r\n", 400, id="space-before-colon"),
        pytest.param(CHUNKS.replace(b"1.1", b"1.0") + b"\r\n0\r\n\r\n", 400, id="te-in-http-1.0"),
        pytest.param(HOST + b"A: b\r\n c\r\n\r\n", 400, id="a-folded-header"),
        pytest.param(HOST + b"A: b\n\r\n", 400, id="a-bare-line-feed"),
        pytest.param(b"GET / HTTP/1.1\nHost: x\n\n", 400, id="only-line-feeds"),
        pytest.param(HOST + b"A: b\rC: d\r\n\r\n", 400, id="a-bare-carriage-return"),
        pytest.param(HOST + b"A: b\0\r\n\r\n", 400, id="a-null-byte"),
        pytest.param(HOST + b"Host: y\r\n\r\n", 400, id="two-hosts"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no-host"),
        pytest.param(b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400, id="another-version"),
        pytest.param(b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="null-in-the-address"),
        pytest.param("GET /ñ HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400, id="not-ascii"),
        pytest.param(b"GET / x HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="a-space-in-the-address"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="http-2"),
        pytest.param(CHUNKS + b"\r\nZ\r\nabc\r\n0\r\n\r\n", 400, id="no-chunk-size"),
        pytest.param(CHUNKS + b"\r\n3\r\nabcXX0\r\n\r\n", 400, id="a-chunk-that-is-longer"),
        pytest.param(CHUNKS + b"\r\n" + b"f" * 30 + b"\r\n", 400, id="a-huge-chunk"),
        pytest.param(CHUNKS + b"\r\n3;\n=\r\nabc", 400, id="line-feed-in-an-extension"),
        pytest.param(CHUNKS + b"\r\n" + b"1\r\nx\r\n" * 3000, 400, id="a-byte-a-chunk"),
        *(
            pytest.param(HOST + line + b"\r\n\r\nabcd", 400, id=f"framing-{number}")
            for number, line in enumerate(NOT_PLAIN_FRAMING)
        ),
        *(
            pytest.param(CHUNKS + b"\r\n" + body, 400, id=f"chunks-{number}")
            for number, body in enumerate(NOT_PLAIN_CHUNKS)
        ),
    ],
)
def test_what_two_readers_could_read_otherwise_is_refused(
    reader: Served, request_bytes: bytes, status: int
) -> None:
    with closing(reader.connect()) as connection:
        connection.sendall(request_bytes)
        got, body = read_reply(connection)
        assert (got, code(body)) == (
            status,
            "head_too_large" if status == 431 else "request_refused",
        )
        assert is_over(connection)


@pytest.fixture(scope="module")
def reader() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(HOST + b"\r\n", id="plain"),
        pytest.param(HOST + b"A: b\r\n" * 90 + b"\r\n", id="many-headers"),
        pytest.param(HOST + LONG[:15_000] + b"\r\n\r\n", id="a-longer-header"),
        pytest.param(BYTES + b"\r\nabcd", id="a-length"),
        pytest.param(CHUNKS + b"\r\n3\r\nabc\r\n0\r\n\r\n", id="chunks"),
        pytest.param(CHUNKS + b"\r\n3;a=b\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", id="trailers"),
        pytest.param(CHUNKS + b"\r\n" + b"1\r\nx\r\n" * 900 + b"0\r\n\r\n", id="small-chunks"),
        pytest.param(HOST + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", id="upgrade"),
        pytest.param(HOST.replace(b"GET /", b"GET http://y/"), id="absolute"),
    ],
)
def test_what_is_in_order_is_read(reader: Served, request_bytes: bytes) -> None:
    if not request_bytes.endswith((b"\r\n\r\n", b"abcd")):
        request_bytes += b"\r\n"
    with closing(reader.connect()) as connection:
        connection.sendall(request_bytes)
        assert read_reply(connection) == (200, b"ok")
        connection.sendall(HOST + b"\r\n")
        assert read_reply(connection) == (200, b"ok"), "the connection goes on"


@pytest.mark.parametrize("trailer", [b"", b"T: x\r\n"])
def test_a_request_right_behind_the_last_chunk_is_its_own(reader: Served, trailer: bytes) -> None:
    """Its body holds line ends that no head may have, and is not read as the chunks' trailers."""
    first = CHUNKS + b"\r\n3\r\nabc\r\n0\r\n" + trailer + b"\r\n"
    with closing(reader.connect()) as connection:
        connection.sendall(first + BYTES + b"\r\na\n b" + HOST + b"\r\n")
        for _ in range(3):
            assert read_reply(connection) == (200, b"ok")


def test_more_than_was_announced_is_another_request_that_is_refused(reader: Served) -> None:
    with closing(reader.connect()) as connection:
        connection.sendall(BYTES + b"\r\nabcd" + b"and ten times more of it" * 10 + b"\r\n\r\n")
        assert read_reply(connection) == (200, b"ok")
        assert read_reply(connection)[0] == 400


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(HOST + b"\r\n", id="a-head"),
        pytest.param(CHUNKS + b"\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n", id="chunks"),
    ],
)
def test_what_comes_byte_by_byte_is_read(reader: Served, request_bytes: bytes) -> None:
    with closing(reader.connect()) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request_bytes:
            connection.send(bytes([byte]))
        assert read_reply(connection) == (200, b"ok")


def test_a_body_that_breaks_while_a_reply_is_under_way_ends_both(reader: Served) -> None:
    with closing(reader.connect()) as connection:
        connection.sendall(CHUNKS.replace(b"/body", b"/half") + b"\r\n3\r\nabc\r\n")
        assert reader.application.waiting.acquire(timeout=30)
        connection.sendall(b"nonsense\r\n")
        assert reader.application.gone.acquire(timeout=30)
        with connection.makefile("rb") as file:
            rest = file.read()
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert not rest.endswith(b"0\r\n\r\n"), "cut off, and it shows"


def test_a_refused_peer_that_goes_on_sending_can_read_why(reader: Served) -> None:
    with closing(reader.connect()) as connection:
        connection.sendall(HOST + LONG)
        for _ in range(50):
            connection.sendall(LONG)
        assert read_reply(connection)[0] == 431


def test_the_end_of_what_is_sent_is_the_end_of_the_connection(reader: Served) -> None:
    for sent in (b"", HOST, CHUNKS + b"\r\n3\r\nab"):
        with closing(reader.connect()) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert is_over(connection)
