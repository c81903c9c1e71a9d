"""Bodies that are too large, of the wrong type, or cut short."""

import asyncio
import socket
from collections.abc import Iterator

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from omega21.protocol.errors import Overloaded
from omega21.server.http.bodies import BODIES_LIMIT, JSON_LIMIT, TENSOR_LIMIT, BodyRoom
from omega21.server.http.json_batches import INLINE_JSON_LIMIT
from tests.servers import RunningServer

SHARD = f"/shards/{'0' * 64}"
JSON = "application/json"
TENSORS = "application/vnd.safetensors"
LIMITS = [
    pytest.param("POST", "/train_layer2", JSON, INLINE_JSON_LIMIT, id="inline"),
    pytest.param("POST", "/train_layer2", TENSORS, TENSOR_LIMIT, id="inline-tensors"),
    pytest.param("POST", "/feedback_dendritas", JSON, JSON_LIMIT, id="message"),
    pytest.param("PUT", SHARD, TENSORS, TENSOR_LIMIT, id="shard"),
]


@pytest.mark.parametrize(("method", "path", "kind", "limit"), LIMITS)
def test_an_announced_length_is_enough_to_refuse(
    server: RunningServer, method: str, path: str, kind: str, limit: int
) -> None:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {limit + 1}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode())  # and not a byte of the body
        answer = connection.makefile("rb").readline()
    assert answer == b"HTTP/1.1 413 Content Too Large\r\n" or b" 413 " in answer


@pytest.mark.parametrize(("method", "path", "kind", "limit"), LIMITS)
def test_a_length_that_nobody_announced_is_counted(
    http: httpx.Client, method: str, path: str, kind: str, limit: int
) -> None:
    def chunks() -> Iterator[bytes]:
        piece = b" " * 2**20
        for _ in range(limit // len(piece) + 2):
            yield piece

    reply = http.request(method, path, content=chunks(), headers={"Content-Type": kind})

    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")
    assert str(limit) in reply.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "said"),
    [
        ("POST", "/train_layer2", {"Content-Type": "text/plain"}, "text/plain"),
        ("POST", "/train_layer2", {}, "no content type"),
        ("POST", "/train_layer2", {"Content-Type": JSON, "Content-Encoding": "gzip"}, "gzip"),
        ("POST", "/feedback_dendritas", {"Content-Type": "text/html"}, "text/html"),
        ("POST", "/feedback_dendritas", {"Content-Type": JSON, "Content-Encoding": "br"}, "br"),
        ("PUT", SHARD, {"Content-Type": JSON}, JSON),
        ("PUT", SHARD, {"Content-Type": TENSORS, "Content-Encoding": "gzip"}, "gzip"),
    ],
)
def test_what_the_server_does_not_read_is_named(
    http: httpx.Client, method: str, path: str, headers: dict[str, str], said: str
) -> None:
    reply = http.request(method, path, content=b"{}", headers=headers)

    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_encoding")
    assert said in reply.json()["detail"]


def test_a_client_that_leaves_in_the_middle_costs_nothing(server: RunningServer) -> None:
    head = (
        f"PUT {SHARD} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {TENSORS}\r\n"
        "Content-Length: 1000\r\n\r\nhalf of it"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode())
    with httpx.Client(base_url=server.address) as http:
        assert http.get("/health").json()["alive"] is True
    assert "Traceback" not in server.log


@pytest.mark.anyio
async def test_all_bodies_share_one_room_and_leave_it_with_their_request() -> None:
    assert BODIES_LIMIT >= TENSOR_LIMIT, "the largest body fits"
    answered = asyncio.Event()

    async def read_one(_scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()
        await answered.wait()

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(60), "more_body": False}

    async def send(_message: Message) -> None: ...

    room = BodyRoom(read_one, 100)
    first = asyncio.create_task(room({"type": "http"}, receive, send))
    await asyncio.sleep(0)  # its body is read
    with pytest.raises(Overloaded):
        await room({"type": "http"}, receive, send)
    answered.set()
    await first
    await room({"type": "http"}, receive, send)
