"""What a hostile server does: each field, size, header and file wrong, huge, slow or escaped."""

import gzip
import itertools
import json
import random
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import brotli
import zstandard

from tests.attacks.hostile import JSON, PATIENCE_SECONDS, PROBLEM, RUN, Harm, Recorded, Reply

_MEGABYTE: Final = 2**20
_URL: Final = ("--url", "{url}", "--timeout", "1")
_FOLDER: Final = ("--workdir", "{folder}/runs")

STATUS: Final = ("status", "{url}", "--timeout", "1")
RUNS: Final = ("runs", "list", *_URL)
SHOW: Final = ("runs", "show", "{run}", *_URL)
METRICS: Final = ("metrics", "{url}", "--timeout", "1", "--run", "{run}")
WATCH: Final = (
    *("watch", "{url}", "--run", "{run}", "--timeout", "1"),
    *("--patience", f"{PATIENCE_SECONDS}s", *_FOLDER),
)
PULL: Final = ("checkpoint", "pull", "{run}", *_URL, "-o", "{folder}/c.safetensors")
WEIGHTS: Final = ("checkpoint", "pull", "{run}", "--weights", *_URL, "-o", "{folder}/w.safetensors")

READ_BY: Final = {
    "/info": WATCH,
    "/status": STATUS,
    "/metricas": METRICS,
    "/runs": RUNS,
    f"/runs/{RUN}": SHOW,
    "/plan": WATCH,
    "/steps": WATCH,
    "/evaluations": WATCH,
    "?full": PULL,
    "?weights": WEIGHTS,
}
"""Which command reads the answer of an address."""

NUMBERS: Final = ("9" * 5000, "9" * 400, "NaN", "-Infinity", "1e300", "1e999", "-1", str(2**63))
ESCAPES: Final = json.dumps("\x1b]0;owned\x07\x1b[2J\u202e\u009b31m\r\n\tend")
OTHERS: Final = ("null", "[]", "{}", '""', "true", ESCAPES, json.dumps("long " * 200_000))
_MARK: Final = "\x00here\x00"


def fields_of(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value in a JSON document."""
    if path:
        yield path
    items: Any = ()
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document[:2])
    for key, value in items:
        yield from fields_of(value, (*path, key))


def field_is(path: tuple[Any, ...], text: str) -> Callable[[Reply], Reply]:
    """Return the change that writes `text`, which need not be JSON, in a field's place."""

    def change(reply: Reply) -> Reply:
        document = json.loads(reply.body)
        place = document
        for key in path[:-1]:
            try:
                place = place[key]
            except (IndexError, KeyError):
                return reply  # an answer with fewer rows
        place[path[-1]] = _MARK
        return reply.with_body(json.dumps(document).replace(json.dumps(_MARK), text).encode())

    return change


def field_harms(recorded: Recorded) -> list[Harm]:
    """Return every field of every answer with every wrong value."""
    return [
        Harm(f"{at} {'.'.join(map(str, path))} = {text[:20]}", command, at, field_is(path, text))
        for at, command in READ_BY.items()
        if not at.startswith("?")
        for path in fields_of(
            json.loads(next(r.body for k, r in recorded.items() if k.endswith(at)))
        )
        for text in (*NUMBERS, *OTHERS)
    ]


def _streams(pieces: Callable[[], Iterator[bytes]], **headers: str) -> Callable[[Reply], Reply]:
    def change(reply: Reply) -> Reply:
        return replace(reply.with_headers(**headers), body=b"", pieces=pieces)

    return change


def _zeros(megabytes: int) -> Iterator[bytes]:
    return itertools.repeat(bytes(_MEGABYTE), megabytes)


def _for_ever(piece: bytes, *, every: float) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        while True:
            yield piece
            time.sleep(every)

    return pieces


def _deflated(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(piece) for piece in _zeros(megabytes)]
    return b"".join([*pieces, packer.flush()])


def _zstd(megabytes: int, *, window: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=window, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return b"".join(packer.compress(piece) for piece in _zeros(megabytes)) + packer.flush()


def _brotli(megabytes: int) -> bytes:
    packer = brotli.Compressor(quality=1)
    pieces: list[bytes] = [packer.process(piece) for piece in _zeros(megabytes)]
    return b"".join([*pieces, packer.finish()])


_BOMBS: Final[dict[str, Callable[[], bytes]]] = {
    "br": lambda: _brotli(2000),
    "gzip": lambda: _deflated(1000),
    "zstd": lambda: _zstd(2000, window=20),
    "deflate": lambda: zlib.compress(bytes(_MEGABYTE)),
    "gzip, gzip": lambda: gzip.compress(_deflated(500)),
    "\x1b[31m": lambda: b"{}",
}


def _encoded(name: str, status: int = 200) -> Callable[[Reply], Reply]:
    def change(reply: Reply) -> Reply:
        changed = reply.with_body(_BOMBS[name]()).with_headers(Content_Encoding=name)
        return replace(changed, status=status)

    return change


def _many(key: str, count: int) -> Callable[[Reply], Reply]:
    """Return the change that repeats the first of a list so often, sent a part at a time."""

    def change(reply: Reply) -> Reply:
        document = json.loads(reply.body)
        entry = json.dumps((document[key] or [{}])[0])
        head, _, tail = json.dumps({**document, key: [_MARK]}).partition(json.dumps(_MARK))
        part = (entry + ",").encode() * 1000

        def pieces() -> Iterator[bytes]:
            yield head.encode()
            yield from itertools.repeat(part, count // 1000)
            yield (entry + tail).encode()

        return replace(reply, body=b"", pieces=pieces)

    return change


def _list_of(key: str, item: bytes, count: int) -> Callable[[Reply], Reply]:
    body = f'{{"{key}":['.encode() + (item + b",") * count + item + b"]}"
    return lambda reply: reply.with_body(body)


def _refuses(status: int, code: str, **fields: object) -> Callable[[Reply], Reply]:
    problem = {"title": "no", "status": status, "detail": "no", "code": code, **fields}
    body = re.sub(r'"(Infinity|1e\d+)"', r"\1", json.dumps(problem)).encode()
    return lambda _reply: Reply(status, {"Content-Type": PROBLEM}, body)


def _waits(text: str) -> Callable[[Reply], Reply]:
    return lambda _reply: Reply(503, {"Content-Type": "text/plain", "Retry-After": text})


def _drips_its_head(reply: Reply) -> Reply:
    return replace(
        reply,
        status=100,
        headers={},
        sized=False,
        body=b"",
        pieces=_for_ever(b"X: y\r\n", every=0.2),
    )


_WAITS: Final = (
    *("86400", "inf", "nan", "-1", "1e12", "9" * 400, "soon", "\x1b[2J"),
    *("Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 99999 23:59:59 GMT", "٣"),
)


def reply_harms() -> list[Harm]:
    """Return whole answers that are huge, slow, encoded, or ask for a wait."""
    huge = {"Content_Type": "text/html"}
    harms = [
        *(Harm(f"encoded as {name!r}", STATUS, "/status", _encoded(name)) for name in _BOMBS),
        *(
            Harm(f"an error encoded as {name!r}", RUNS, "/runs", _encoded(name, 500))
            for name in _BOMBS
        ),
        *(
            Harm(f"Retry-After: {text[:30]}", WATCH, at, _waits(text))
            for text in _WAITS
            for at in ("/info", "/steps")
        ),
        Harm("250 MB of rows", WATCH, "/steps", _many("steps", 1_500_000)),
        Harm("100,000 runs", RUNS, "/runs", _many("runs", 100_000)),
        Harm("2 million shards", WATCH, "/plan", _many("segments", 50_000)),
        Harm("a body of 2 GB", STATUS, "/status", _streams(lambda: _zeros(2000))),
        Harm("a page of 2 GB", STATUS, "/status", _streams(lambda: _zeros(2000), **huge)),
        Harm("4 MB of brackets", STATUS, "/status", lambda r: r.with_body(b"[" * 4_000_000)),
        Harm("4 MB of objects", RUNS, "/runs", _list_of("runs", b"{}", 1_300_000)),
        Harm("4 MB of zeros", WATCH, "/steps", _list_of("steps", b"0", 1_900_000)),
        Harm("a body that drips", STATUS, "/status", _streams(_for_ever(b" ", every=0.2))),
        Harm("a body that drips", WATCH, "/steps", _streams(_for_ever(b" ", every=0.2))),
        Harm("a page that drips", RUNS, "/runs", _streams(_for_ever(b" ", every=0.2), **huge)),
        Harm("a head without end", STATUS, "/status", _drips_its_head),
        Harm("a header of 1 MB", STATUS, "/status", lambda r: r.with_headers(X="x" * _MEGABYTE)),
        Harm(
            "sent on to an escape",
            STATUS,
            "/info",
            lambda r: replace(r.with_headers(Location="http://\x1b[2J/"), status=302),
        ),
        Harm(
            "escapes in an error",
            SHOW,
            f"/runs/{RUN}",
            _refuses(404, "unknown_run", detail=json.loads(ESCAPES)),
        ),
        Harm("escapes in a code", SHOW, f"/runs/{RUN}", _refuses(418, json.loads(ESCAPES))),
        Harm(
            "an error of 1 MB",
            SHOW,
            f"/runs/{RUN}",
            _refuses(404, "unknown_run", detail="no " * 300_000),
        ),
        Harm(
            "still running, for ever",
            STATUS,
            "/status",
            _refuses(409, "still_running", retry_after=0.1),
        ),
    ]
    for wait in ("1e12", "Infinity"):
        change = _refuses(503, "unavailable", retry_after=wait)
        harms += [Harm(f"retry_after {wait}", WATCH, at, change) for at in ("/info", "/steps")]
    return harms


def _safetensors(header: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def _tensor(kind: str, shape: list[int], end: int) -> bytes:
    return json.dumps({"w": {"dtype": kind, "shape": shape, "data_offsets": [0, end]}}).encode()


FILES: Final = {
    "a header of 2^63 bytes": _safetensors(b"{}", length=2**63),
    "no header": b"abc",
    "nothing": b"",
    "not JSON": _safetensors(b"\xff\x1b[2J"),
    "a header of lists": _safetensors(b"[" * 100_000),
    "BF16": _safetensors(_tensor("BF16", [2], 4), bytes(4)),
    "F8": _safetensors(_tensor("F8_E4M3", [4], 4), bytes(4)),
    "an escape for a type": _safetensors(_tensor("\x1b[2J", [4], 4), bytes(4)),
    "a huge shape": _safetensors(_tensor("F32", [2**40, 2**40], 4), bytes(4)),
    "another length": _safetensors(_tensor("F32", [1], 4), bytes(9)),
    "many digits": _safetensors(b'{"w":{"shape":[' + b"9" * 5000 + b"]}}"),
}


def file_harms() -> list[Harm]:
    """Return checkpoints and weights that are none, or are larger than any disk."""
    harms = []
    for at, command in (("?full", PULL), ("?weights", WEIGHTS)):
        harms += [
            Harm(name, command, at, partial(Reply.with_body, body=body))
            for name, body in FILES.items()
        ]
        for name, headers in {
            "10^15 bytes announced": {"Content_Length": str(10**15)},
            "3 GB announced, for ever": {"Content_Length": "9" * 30},
            "no step": {"Omega21_Step": ""},
            "a step of 5,000 digits": {"Omega21_Step": "9" * 5000},
            "a step in other digits": {"Omega21_Step": "٣"},
            "an escape for a digest": {"ETag": '"\x1b[2J"'},
            "gzip": {"Content_Encoding": "gzip"},
        }.items():
            change = _with(headers)
            harms.append(Harm(name, command, at, change))
        harms += [
            Harm("without end", command, at, _streams(lambda: _zeros(10_000))),
            Harm("drips", command, at, _streams(_for_ever(b"x", every=0.2), Content_Length="4000")),
            Harm("an error of 2 GB", command, at, _error_without_end),
        ]
    return harms


def _with(headers: dict[str, str]) -> Callable[[Reply], Reply]:
    return lambda reply: reply.with_headers(**headers)


def _error_without_end(_reply: Reply) -> Reply:
    return Reply(500, {"Content-Type": JSON}, pieces=lambda: _zeros(2000))


def at_random(recorded: Recorded, *, seed: int, times: int) -> list[Harm]:
    """Return so many harms, half of them of fields; the same ones for the same seed."""
    generator = random.Random(seed)
    fields, others = field_harms(recorded), [*reply_harms(), *file_harms()]
    half = min(times // 2, len(fields))
    return [
        *generator.sample(fields, half),
        *generator.sample(others, min(times - half, len(others))),
    ]
