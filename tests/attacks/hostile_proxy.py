"""A server that trains as it should and makes one kind of its replies wrong.

Stands between the command line and a real server, so that what writes (`train`, `resume`,
`predict`, `verify`) meets it too, whose answers cannot be recorded beforehand.
"""

import http.client
import json
import random
import socketserver
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.attacks.harms import NUMBERS, OTHERS, field_is, fields_of
from tests.attacks.hostile import JSON, Harm, HostileServer, Reply, write_reply

TRAIN = (
    *("train", "{url}", "--run", "{run}", "--samples", "8", "--batch-size", "4"),
    *("--validation", "4", "--timeout", "10", "--patience", "8s"),
    *("--workdir", "{folder}/runs", "--no-report", "--no-tensorboard"),
)
_KEPT = ("content-type", "etag", "omega21-step")


class HostileProxy(HostileServer):
    """Hands requests on to `target`, and harms the answers of the addresses that `harm.at` ends.

    `recorded` holds the last good answer of each address, the run's name taken out.
    """

    def __init__(self, target: str) -> None:
        super().__init__({})
        self._target = urlsplit(target)

    def _handler(server) -> type[socketserver.StreamRequestHandler]:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    request = _read(self.rfile)
                    if request is not None:
                        write_reply(self.wfile, server.forward(*request))
                except (OSError, http.client.HTTPException):
                    return  # the client has had enough, or the real server has

        return Handler

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Ask the real server, and harm what it says where that is due."""
        link = http.client.HTTPConnection(self._target.hostname or "", self._target.port or 80)
        try:
            link.request(method, path, body or None, headers)
            answer = link.getresponse()
            kept = {n: t for n, t in answer.headers.items() if n.lower() in _KEPT}
            reply = Reply(answer.status, kept, answer.read())
        finally:
            link.close()
        key = f"{method} {_without_run(urlsplit(path).path)}"
        if reply.status < 300:
            self.recorded[key] = reply
        if self.harm is not None and key == self.harm.at:
            self.harmed += 1
            return self.harm.change(reply)
        return reply


def _read(stream: Any) -> tuple[str, str, dict[str, str], bytes] | None:
    first = stream.readline(65_536).split()
    if len(first) != 3:
        return None
    headers = http.client.parse_headers(stream)
    body = stream.read(int(headers.get("Content-Length") or 0))
    kept = {
        name: text
        for name, text in headers.items()
        if name.lower() not in ("host", "connection", "accept-encoding", "content-length")
    }
    return first[0].decode("ascii"), first[1].decode("ascii"), kept, body


def _without_run(path: str) -> str:
    """The address without what differs from run to run: names and digests."""
    parts = path.split("/")
    for place in range(1, len(parts) - 1):
        if parts[place] in ("runs", "shards", "plan") and parts[place + 1] != "missing":
            parts[place + 1] = "*"
    return "/".join(parts)


def training_harms(proxy: HostileProxy, *, seed: int) -> Iterator[Harm]:
    """Yield, in an order drawn by `seed`, every field of every answer with every wrong value."""
    harms = [
        Harm(f"{at} {'.'.join(map(str, path))} = {text[:20]}", TRAIN, at, field_is(path, text))
        for at, reply in sorted(proxy.recorded.items())
        if reply.headers.get("content-type", "").startswith(JSON)
        for path in fields_of(json.loads(reply.body))
        for text in (*NUMBERS, *OTHERS)
    ]
    yield from random.Random(seed).sample(harms, len(harms))
