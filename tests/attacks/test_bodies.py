"""Bodies made to blow up, by someone who even has the token, and bodies unlike their length."""

import struct
from contextlib import ExitStack, closing, suppress

import pytest
import zstandard

from omega21.server.http.bodies import BODIES_LIMIT
from tests.attacks.target import RUN, Target, read_reply, refused, request

JSON = "Content-Type: application/json"
TENSORS = "Content-Type: application/vnd.safetensors"
ZSTD = "Content-Encoding: zstd"
SHARD = f"/shards/{'0' * 64}"
GIGABYTE = 2**30


def zstd_bomb(*, says: int, holds: int) -> bytes:
    """A frame that says how large its content is, and holds so many zeros in blocks of 128 KiB."""
    block = 2**17
    repeated = struct.pack("<I", block << 3 | 1 << 1)[:3] + b"\0"  # a block of one byte, repeated
    last = struct.pack("<I", 1 << 3 | 1 << 1 | 1)[:3] + b"\0"
    head = b"\x28\xb5\x2f\xfd" + bytes([0b1110_0000]) + struct.pack("<Q", says)
    return head + repeated * (holds // block) + last


def test_the_bomb_is_one() -> None:
    frame = zstd_bomb(says=2**20 + 1, holds=2**20)
    assert len(frame) < 100
    assert zstandard.ZstdDecompressor().decompress(frame) == bytes(2**20 + 1)


FRAMES = {
    "says ten gigabytes": zstd_bomb(says=10 * GIGABYTE, holds=10 * GIGABYTE),
    "says a kilobyte": zstd_bomb(says=1024, holds=GIGABYTE),
    "as large as may be": zstandard.ZstdCompressor().compress(bytes(64 * 2**20)),
    "says nothing": zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**20)),
    "many frames": zstandard.ZstdCompressor().compress(bytes(2**20)) * 100,
    "a frame in a frame": zstandard.ZstdCompressor().compress(
        zstandard.ZstdCompressor().compress(bytes(2**26))
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_zstd_bombs(target: Target, name: str) -> None:
    calls = [
        request("PUT", SHARD, TENSORS, ZSTD, body=FRAMES[name]),
        request("POST", "/train_layer2", TENSORS, ZSTD, body=FRAMES[name]),
        request("POST", "/train_layer2", JSON, ZSTD, body=FRAMES[name]),
    ]
    with target.attacked(megabytes=500):
        replies = target.send_all(calls * 4)
    assert refused(replies), [reply.text for reply in replies]


DEEP, WIDE = 4 * 2**20, 2 * 2**20
DOCUMENTS = {
    "deep lists": b"[" * DEEP,
    "deep lists, closed": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "a deep field": b'{"samples":' + b"[" * DEEP,
    "a deep sample": b'{"samples":[{"input_data":' + b"[" * DEEP,
    "wide lists": b"[" + b"[]," * WIDE + b"[]]",
    "a wide field": b'{"shards":[' + b"{}," * WIDE + b"{}]}",
    "wide samples": b'{"samples":[' + b"{}," * WIDE + b"{}]}",
    "many fields": b"{" + b",".join(b'"%d":0' % n for n in range(600_000)) + b"}",
    "a long number": b'{"epochs":' + b"9" * DEEP + b"}",
    "a huge exponent": b'{"epochs": 1e999999999, "samples": []}',
    "a long text": b'{"shards":["' + b"\\u0041" * 10**6 + b'"]}',
    "cut short": b'{"shards":["' + b"0" * DEEP,
    "not a text": b"\xff\xfe" * 10**6,
    "nan": b'{"ajustes_aplicados":[NaN,Infinity], "validacion": true}',
}
CALLS = (
    ("POST", "/train_layer2"),
    ("POST", "/feedback_dendritas"),
    ("POST", "/shards/missing"),
    ("PUT", f"/runs/{RUN}/plan/0"),
    ("POST", f"/runs/{RUN}/predict"),
    ("PUT", "/runs/bombed"),
)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_json_bombs(target: Target, name: str) -> None:
    calls = [request(method, path, JSON, body=DOCUMENTS[name]) for method, path in CALLS]
    with target.attacked(megabytes=700):
        replies = target.send_all(calls, at_once=3)
    assert refused(replies), [reply.text for reply in replies]


def test_bodies_for_which_nobody_may_call_are_not_read(target: Target) -> None:
    calls = [
        request(method, path, JSON, token=False, body=bytes(8 * 2**20)) for method, path in CALLS
    ]
    with target.attacked(megabytes=100):
        replies = target.send_all(calls * 4)
    assert {reply.status for reply in replies} == {401}


def test_uploads_that_never_end_leave_room_for_others(target: Target) -> None:
    size = 60 * 2**20
    head = request("PUT", SHARD, TENSORS, f"Content-Length: {size}")
    part = bytes(size - 1)
    with ExitStack() as opened, target.attacked(megabytes=2 * BODIES_LIMIT // 2**20 + 200):
        uploads = [opened.enter_context(closing(target.connect())) for _ in range(6)]
        for upload in uploads:
            with suppress(ConnectionError):
                upload.sendall(head + part)
        refused_for_now = read_reply(uploads[-1])
        assert refused_for_now.status == 429
        assert b'"overloaded"' in refused_for_now.text
        assert b"retry-after: 1" in refused_for_now.text.lower()


@pytest.mark.parametrize("announced", [10, 1000])
def test_less_or_more_than_was_announced(target: Target, announced: int) -> None:
    body = b'{"shards": []}' + b" " * 86
    head = request("POST", "/shards/missing", JSON, f"Content-Length: {announced}")
    with target.attacked(megabytes=100):
        replies = [target.send(head + body, close=True) for _ in range(10)]
    assert all(reply.status in {0, 400, 422} for reply in replies)


def test_ranges_without_end(target: Target) -> None:
    many = ",".join(f"{n}-{n + 9}" for n in range(0, 15_000, 11))
    ranges = ["0-0," * 3000 + "0-0", many, "9-0", "-", "a-b", "0-" + "9" * 4000, "-" + "9" * 4000]
    path = f"/runs/{RUN}/checkpoint"
    calls = [request("GET", path, f"Range: bytes={text}") for text in ranges]
    with target.attacked(megabytes=200):
        replies = target.send_all(calls)
    assert all(200 <= reply.status < 500 for reply in replies)
