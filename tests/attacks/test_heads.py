"""Addresses, headers and framing made to be taken for something else."""

from pathlib import Path

import pytest

from tests.attacks.target import RUN, Target, refused, request

FORGED = (
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Host: 127.0.0.1",
    "X-Forwarded-Proto: https",
    "X-Real-IP: 127.0.0.1",
    "X-Original-URL: /health",
    "X-Rewrite-URL: /health",
    "X-HTTP-Method-Override: GET",
    "Forwarded: for=127.0.0.1;host=127.0.0.1;proto=https",
    "Origin: http://127.0.0.1",
    "Referer: http://127.0.0.1/",
    "Cookie: omega21_session=" + "0" * 32 + ".99999999999." + "0" * 64,
    "Authorization: Bearer ",
    "Authorization: Basic Og==",
    "Authorization: Bearer null",
)

PATHS = (
    "/../../etc/passwd",
    "/static/../../etc/passwd",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static/..%2f..%2fetc%2fpasswd",
    "/static/%2e%2e%5cstatus",
    "/static//etc/passwd",
    "/static/%00",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/runs/..%2f..%2fetc%2fpasswd",
    "/runs/%2e%2e",
    "/runs/.",
    "/runs/a%00b",
    "/runs/a%2fb/steps",
    "/runs/%c0%ae%c0%ae",
    "/runs/%ff%fe",
    "/runs/con",
    "/runs/" + "a" * 5000,
    "/runs/a%0d%0aX-Injected:%20yes",
    "/runs/%f0%9f%92%a9",
    "/shards/..%2f" + "0" * 61,
    "/shards/" + "0" * 64 + "%0a",
    f"/runs/{RUN}/checkpoint/parts/..%2f..%2fx",
    f"/runs/{RUN}/plan/-1",
    f"/runs/{RUN}/plan/99999999999999999999999",
    f"/runs/{RUN}/plan/1e3",
    "//runs",
    "/./runs",
    "/RUNS",
    "/runs/",
    "/runs;x",
    "/health/../status",
    "/health%2f..%2fstatus",
    "/session/../status",
    "http://127.0.0.1/status",
    "https://elsewhere.example/status",
    "elsewhere.example:443",
    "*",
    "?run=default",
    "/status?run=..%2f..%2fetc",
    "/status?run=%00",
    "/status?run=a&run=b%0a",
    "/docs/../docs/style.css/..%2f",
)
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "X")


def files_around(target: Target) -> set[Path]:
    """All files outside of the data folder that something could have been written to by mistake."""
    folder = target.server.data_dir
    return {path for path in folder.parent.rglob("*") if folder not in path.parents}


@pytest.mark.parametrize("token", [True, False], ids=["with-the-token", "without-it"])
def test_paths_lead_nowhere_else(target: Target, token: bool) -> None:
    before = files_around(target)
    calls = [request(method, path, token=token) for path in PATHS for method in METHODS]
    with target.attacked(megabytes=100):
        replies = target.send_all(calls)
    assert all(b"root:" not in reply.text for reply in replies)
    assert all(b"X-Injected" not in reply.text.partition(b"\r\n\r\n")[0] for reply in replies)
    assert refused(replies), {
        (call.split(b"\r\n")[0], reply.status)
        for call, reply in zip(calls, replies, strict=True)
        if not refused([reply])
    }
    assert token or {reply.status for reply in replies} == {401, 404}
    assert files_around(target) == before


def test_no_header_opens_what_needs_the_token(target: Target) -> None:
    protected = ("/status", "/runs", "/docs", "/openapi.json", f"/runs/{RUN}/checkpoint", "/nope")
    calls = [request("GET", path, header, token=False) for path in protected for header in FORGED]
    calls += [request("GET", path, *FORGED[:11], token=False) for path in protected]
    hosts = ("127.0.0.1", "localhost", "[::1", "a:b:c", "x" * 4000, "user@x", "", "x:99999")
    calls += [
        request("GET", "/status", token=False).replace(b"Host: x", f"Host: {host}".encode())
        for host in hosts
    ]
    with target.attacked(megabytes=100):
        replies = target.send_all(calls)
    assert {reply.status for reply in replies} <= {401, 429}
    assert not any(RUN.encode() in reply.text for reply in replies)


def test_no_host_or_origin_breaks_what_the_token_opens(target: Target) -> None:
    hosts = ("[::1", "a:b:c", "x" * 4000, "user@x", "", "x:99999", "\xe9", "a/b", "[]", "%00")
    calls = [
        request("GET", path, f"Origin: https://{host}").replace(
            b"Host: x", b"Host: " + host.encode("latin-1")
        )
        for host in hosts
        for path in ("/status", "/nope", "/docs", "/openapi.json", "/session")
    ]
    with target.attacked(megabytes=100):
        replies = target.send_all(calls)
    assert all(reply.status in {200, 404} for reply in replies)


LINES = (
    ("Content-Length: 4", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Content-Length: 4"),
    ("Content-Length: 4", "Content-Length: 40"),
    ("Content-Length: 4, 40",),
    ("Content-Length: -4",),
    ("Content-Length: 4 4",),
    ("Content-Length: 4 ",),
    ("Content-Length: 4, 4",),
    ("Content-Length: 04",),
    ("Content-Length: 4", "Content-Length: 4"),
    ("Transfer-Encoding: chunked ",),
    ("Content-Length:\x0b4",),
    ("Content-Length: " + "9" * 400,),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    ("Transfer-Encoding: chunked, identity",),
    ("Transfer-Encoding:\x0bchunked",),
    ("Transfer-Encoding : chunked",),
    (" Transfer-Encoding: chunked",),
    ("X: y\n Transfer-Encoding: chunked",),
    ("X: y\r\n Transfer-Encoding: chunked",),
    ("X: y\nTransfer-Encoding: chunked",),
    ("X: y\rTransfer-Encoding: chunked",),
    ("X: y\0Transfer-Encoding: chunked",),
    ("X y",),
    (": y",),
)


def test_a_second_request_cannot_be_smuggled_in(target: Target) -> None:
    inner = "DELETE /runs/attacked?run_id=" + "a" * 32 + " HTTP/1.1\r\nHost: x\r\n\r\n"
    calls = [
        request("POST", "/diagnostico", *lines) + b"0\r\n\r\n" + inner.encode() for lines in LINES
    ]
    with target.attacked(megabytes=100):
        replies = target.send_all(calls)
    assert {reply.status for reply in replies} == {400}, [r.text for r in replies]


def test_heads_without_measure(target: Target) -> None:
    calls = [
        b"GET /" + b"a" * 2**20,
        b"A" * 2**20,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2**22 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10**5 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x" * 2**20 + b": y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X:\r\n" * 2000 + b"\r\n",
        b"\r\n" * 10**5,
        b"\0" * 2**20,
        bytes(range(256)) * 100,
    ]
    with target.attacked(megabytes=100):
        replies = target.send_all(calls * 8)
    assert all(reply.status in {0, 400, 431} for reply in replies)
    assert {reply.status for reply in replies} >= {400, 431}
