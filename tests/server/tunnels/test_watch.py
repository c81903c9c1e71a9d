"""What the watch of a tunnel does when the tunnel, its quota or the server fails.

The provider is a class of a few lines; the server, and what answers at the public address, are
real. Pauses are short here: how long they are is looked at, not waited for.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue

import pytest

from omega21.protocol.errors import TunnelLost
from omega21.protocol.link.tunnels import TunnelKind
from omega21.server.tunnels.provider import TunnelState
from omega21.server.tunnels.reach import check_reached
from omega21.server.tunnels.watch import Intervals, TunnelWatch
from tests.proxies import canned, reply
from tests.servers import RunningServer

ALIVE = reply(200, '{"alive": true, "timestamp": "now", "uptime_seconds": 1.0}')
OFFLINE = reply(404, "<html>offline</html>", "text/html", "Ngrok-Error-Code: ERR_NGROK_3200")
NO_MORE = reply(429, "<html>quota</html>", "text/html", "Ngrok-Error-Code: ERR_NGROK_727")
BAD_GATEWAY = reply(530, "<html>error code: 1033</html>", "text/html")

FAST = Intervals(
    state=0.001,
    reach=0.0,
    reach_again=0.0,
    mends_itself=0.05,
    first_pause=0.001,
    longest_pause=0.008,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Provider:
    """A tunnel whose addresses and states are given; after the last one it stays as it is."""

    addresses: list[str | TunnelLost]
    states: list[TunnelState] = field(default_factory=lambda: ["open"])
    kind: TunnelKind = "cloudflared"
    opened: int = 0
    is_open: bool = False

    def open(self, port: int) -> str:
        assert port
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        if isinstance(address, TunnelLost):
            raise address
        self.opened += 1
        self.is_open = True
        return address

    def state(self) -> TunnelState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def close(self) -> None:
        self.is_open = False


def moves(provider: Provider, *, port: int, every: Intervals, until: Callable[[str], bool]) -> str:
    """Watch a tunnel until it has an address as wanted; return that."""
    addresses: SimpleQueue[str] = SimpleQueue()
    watch = TunnelWatch(provider, port, addresses.put, every)
    try:
        assert watch.open() is not None
        while not until(address := addresses.get(timeout=60)):
            pass
        return address
    finally:
        watch.close()
        assert not provider.is_open


def test_a_tunnel_that_ended_is_opened_again_after_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = [TunnelLost("no network", hint="") for _ in range(6)]
    provider = Provider(["http://a", *lost, "http://b"], ["open", "closed", "open"])
    moves(provider, port=1, every=FAST, until="http://b".__eq__)
    waits = [r.args[1] for r in caplog.records if r.msg == "%s; trying again in %.0f s" and r.args]  # type: ignore[index]
    assert waits == [0.001, 0.002, 0.004, 0.008, 0.008, 0.008]


def test_the_same_address_again_is_no_news() -> None:
    provider = Provider(["http://a", "http://a", "http://b"], ["closed", "closed", "open"])
    assert moves(provider, port=1, every=FAST, until=lambda _: True) == "http://b"
    assert provider.opened == 3


def test_a_tunnel_gets_time_to_mend_itself(caplog: pytest.LogCaptureFixture) -> None:
    mended: list[TunnelState] = ["reconnecting"] * 3
    provider = Provider(["http://a", "http://b"], [*mended, "open", "reconnecting"])
    assert moves(provider, port=1, every=FAST, until=lambda _: True) == "http://b"
    assert "without a connection" in caplog.text


@pytest.mark.anyio
async def test_an_address_that_is_not_reached_three_times_gets_a_new_tunnel(
    server: RunningServer,
) -> None:
    async with canned(OFFLINE, ALIVE, BAD_GATEWAY, OFFLINE, BAD_GATEWAY) as public:
        provider = Provider([public.address, "http://b"])
        watching = partial(moves, provider, port=server.port, every=FAST, until=lambda _: True)
        assert await asyncio.to_thread(watching) == "http://b"
        # One failure and a success, then three failures in a row.
        assert len(public.requests or []) == 5
        head = (public.requests or [])[0].decode().lower()
        assert head.startswith("get /health ")
        assert "ngrok-skip-browser-warning: 1" in head


@pytest.mark.anyio
async def test_a_used_up_quota_and_a_dead_server_need_no_new_tunnel(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    refused = [NO_MORE] * 4
    async with canned(*refused, BAD_GATEWAY) as public:
        provider = Provider([public.address, "http://b"])
        watching = partial(moves, provider, port=server.port, every=FAST, until=lambda _: True)
        assert await asyncio.to_thread(watching) == "http://b"
        assert len(public.requests or []) == len(refused) + FAST.failed_checks
    assert "the tunnel's quota is used up (ERR_NGROK_727)" in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (ALIVE, "reached", ""),
        (OFFLINE, "tunnel_lost", "ERR_NGROK_3200"),
        (NO_MORE, "quota", "ERR_NGROK_727"),
        (BAD_GATEWAY, "tunnel_lost", "HTTP 530, text/html"),
        (reply(200, "<html>a router</html>", "text/html"), "tunnel_lost", "HTTP 200, text/html"),
    ],
)
async def test_who_failed_is_told_apart(
    server: RunningServer, answer: bytes, outcome: str, reason: str
) -> None:
    async with canned(answer) as public:
        reached = await asyncio.to_thread(check_reached, public.address, port=server.port)
        assert (reached.outcome, reached.reason) == (outcome, reason)
        # Nothing listens there: no request goes through the tunnel for that.
        before = len(public.requests or [])
        reached = await asyncio.to_thread(check_reached, public.address, port=1)
        assert reached.outcome == "server_down"
        assert len(public.requests or []) == before


UNREADABLE = [
    {"NO_PROXY": "[::1]"},
    {"NO_PROXY": "localhost,[fe80::1"},
    {"HTTPS_PROXY": "ftp://127.0.0.1:9"},
    {"ALL_PROXY": "http://127.0.0.1:port"},
    {"SSL_CERT_FILE": "/gone.pem"},
]


def clear(environment: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        environment.delenv(name, raising=False)
        environment.delenv(name.lower(), raising=False)


@dataclass
class Looked(Provider):
    """A provider that tells when it has been asked for its state so often."""

    times: int = 10
    looked: threading.Event = field(default_factory=threading.Event)
    breaks: bool = False

    def state(self) -> TunnelState:
        self.times -= 1
        if self.times <= 0:
            self.looked.set()
        if self.breaks:
            raise RuntimeError("the provider's own program is broken")
        return super().state()


def hold(provider: Looked, *, port: int) -> None:
    """Watch a tunnel for some looks at it; it has to be held all the while."""
    watch = TunnelWatch(provider, port, lambda _: None, FAST)
    try:
        assert watch.open() == "http://127.0.0.1:9"
        assert provider.looked.wait(60)
        assert provider.is_open
        assert provider.opened == 1
    finally:
        watch.close()


@pytest.mark.parametrize("settings", UNREADABLE, ids=str)
def test_an_environment_that_cannot_be_read_closes_no_tunnel(
    server: RunningServer,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clear(monkeypatch)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for name, text in settings.items():
        monkeypatch.setenv(name, text)
    hold(Looked(["http://127.0.0.1:9"]), port=server.port)
    assert "whether http://127.0.0.1:9 is reached is not known" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_provider_that_breaks_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    hold(Looked(["http://127.0.0.1:9"], breaks=True, times=3), port=1)
    assert "looking after the tunnel failed" in caplog.text


def test_requests_through_the_tunnel_stay_within_a_quota() -> None:
    month = 30 * 24 * 3600
    assert month / Intervals().reach <= 0.15 * 20_000
