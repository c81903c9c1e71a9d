"""Strangers in numbers: whatever they send, the owner's lines stay, and nothing breaks."""

import random
import re

from tests.attacks.target import Target, request
from tests.attacks.test_heads import FORGED, LINES, METHODS, PATHS

REQUESTS = 2000
OWNERS = 40
OPEN = ("/", "/health", "/session", "/static/app.js", "/static/nope", "/static/" + "x" * 15_000)
BODIES = (b"", b"{}", b'{"token": "guessed"}', b"\0" * 2000, b"[" * 5000, b"\xff\xfe")
TYPES = ("application/json", "text/plain", "application/vnd.safetensors", "multipart/form-data")
ODD = (
    "Upgrade: websocket\r\nConnection: upgrade",
    "Range: bytes=0-",
    "If-None-Match: *",
    "Accept-Encoding: zstd",
    "Accept-Language: es, \xff",
    "Expect: 100-continue",
    "Connection: close",
)


def some_request(rng: random.Random) -> bytes:
    """One of every kind that needs no token: read or refused, in order or not."""
    method = rng.choice((*METHODS, "GET", "POST", "M" * 8000))
    path = rng.choice((*PATHS, *OPEN, *OPEN))
    headers = rng.sample((*FORGED, *ODD), rng.randrange(3))
    if rng.random() < 0.1:
        return request(method, path, *headers, *rng.choice(LINES), token=False) + b"0\r\n\r\n"
    headers.append(f"Content-Type: {rng.choice(TYPES)}")
    return request(method, path, *headers, token=False, body=rng.choice(BODIES))


def test_two_thousand_requests_leave_the_owners_lines_and_no_5xx(target: Target) -> None:
    rng = random.Random(21)
    calls = [some_request(rng) for _ in range(REQUESTS)]
    with target.owner() as owner:
        before = len(target.server.log)
        for number in range(OWNERS):
            owner.api.shards.missing([f"{number:064x}"])
        replies = target.send_all(calls)
        written = target.server.log[before:]
        lines = owner.logs(lines=200).lines
    statuses = {reply.status for reply in replies}
    assert not {status for status in statuses if status >= 500}, statuses
    assert {200, 400, 401, 404} <= statuses
    asked = [line for line in lines if "/shards/missing" in line]
    assert len(asked) >= OWNERS, lines
    assert len(written) < 60_000, "what strangers add to standard error is bounded"
    odd = [line for line in written.splitlines() if not re.match(r"\d{4}-\d\d-\d\d ", line)]
    assert not odd, "neither a trace nor a line that a stranger made"
