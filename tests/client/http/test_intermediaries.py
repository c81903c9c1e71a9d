"""Tunnels, proxies and routers in front of the server: the real client through a real nginx.

Each case is what one of them answers, as nginx is made to answer it under a path of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from omega21 import AsyncClient
from omega21.client.api.api import Api
from omega21.client.events import Event, LinkLost, LinkRestored, RunReady
from omega21.client.http.retry import RetryRules
from omega21.client.training.options import TrainOptions
from omega21.protocol.errors import (
    BodyTooLarge,
    InvalidAddress,
    InvalidRequest,
    NotOmega21,
    OmegaError,
    TimedOut,
    TunnelLimit,
    TunnelOffline,
    Unreachable,
)
from tests.client.runs import done, stored, tiny, train
from tests.nginx import Nginx, make_authority, start_nginx
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

ATTEMPTS = 3
QUICK = RetryRules(attempts=ATTEMPTS, first_delay=0.001, longest_delay=0.002)


@dataclass(frozen=True)
class Case:
    """What answers (status, headers, body), which error that is, words of its line."""

    name: str
    status: int
    expected: type[OmegaError]
    words: str
    headers: tuple[str, ...] = ()
    body: str = "<html><h1>a page</h1></html>"
    media_type: str = "text/html"
    is_retried: bool = False

    def location(self) -> str:
        """The nginx lines that answer so."""
        added = "".join(f"add_header {header} always;\n" for header in self.headers)
        body = self.body.replace("'", "")
        return f"location /{self.name}/ {{\n{added}default_type {self.media_type};\n" + (
            f"return {self.status} '{body}';\n}}\n"
        )


def ngrok(code: int) -> tuple[str, ...]:
    return (f"ngrok-error-code ERR_NGROK_{code}",)


CLOUDFLARE_1033 = "<title>Argo Tunnel error</title><span>Error</span> <span>1033</span>"
RAY = "cf-ray 8f2e-MAD"
CASES = [
    Case("bandwidth", 402, TunnelLimit, "bandwidth of this month is used up", ngrok(725)),
    Case("requests", 402, TunnelLimit, "requests of this month are used up", ngrok(727)),
    Case("offline", 404, TunnelOffline, "omega21 resume --url URL", ngrok(3200), is_retried=True),
    Case("account", 502, TunnelOffline, "NGROK_AUTHTOKEN", ngrok(4018), is_retried=True),
    Case("upstream", 502, Unreachable, "the server behind it does not", ngrok(8012),
         is_retried=True),
    Case("other", 400, Unreachable, "errors/err_ngrok_9999", ngrok(9999), is_retried=True),
    Case("rate", 429, Unreachable, "limit on the rate", (*ngrok(734), "Retry-After 0"),
         is_retried=True),
    Case("cloudflare-rate", 429, Unreachable, "limit on the rate", (RAY, "Retry-After 0"),
         is_retried=True),
    Case("530", 530, TunnelOffline, "HTTP 530, error 1033", body="error code: 1033",
         headers=(RAY,), is_retried=True),
    Case("530-page", 530, TunnelOffline, "error 1033", body=CLOUDFLARE_1033,
         headers=(RAY,), is_retried=True),
    Case("530-json", 530, TunnelOffline, "error 1033", headers=(RAY,), is_retried=True,
         body='{"title": "Error 1033: Cloudflare Tunnel error", "status": 530, "error_code": 1033}',
         media_type="application/problem+json"),
    Case("524", 524, TimedOut, "waited too long", is_retried=True),
    Case("504", 504, TimedOut, "waited too long", is_retried=True),
    *(Case(str(status), status, Unreachable, f"does not (HTTP {status})", is_retried=True)
      for status in (502, 503, 520, 521, 522, 523, 525, 526)),
    Case("521-json", 521, Unreachable, "HTTP 521", headers=(RAY,), is_retried=True,
         body='{"title": "Error 521", "status": 521, "error_code": 521, "detail": "down"}',
         media_type="application/problem+json"),
    Case("large", 413, BodyTooLarge, "refuses requests of this size"),
    Case("router", 200, NotOmega21, "HTTP 200 with text/html"),
    Case("service", 404, NotOmega21, "HTTP 404 with text/html"),
    Case("json", 404, NotOmega21, "HTTP 404 with application/json", body='{"detail": "no"}',
         media_type="application/json"),
    Case("portal", 511, NotOmega21, "log in"),
    Case("moved", 302, NotOmega21, "the address redirects to", ("Location https://login.example/",)),
    Case("warning", 200, NotOmega21, "ngrok-skip-browser-warning", ngrok(6024)),
]  # fmt: skip

_CLOUDFLARES = "".join(case.location() for case in CASES)
# The warning page for browsers, which the header of this client skips.
_WARNING = """
location /skipped/ {
    if ($http_ngrok_skip_browser_warning = '') {
        add_header ngrok-error-code ERR_NGROK_6024 always;
        return 200 '<html>You are about to visit a site</html>';
    }
    proxy_pass http://127.0.0.1:%d/;
}
"""


@pytest.fixture(scope="module")
def proxy(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx with every case under a path of its own, and the server under the root."""
    locations = _CLOUDFLARES + _WARNING % server.port
    with start_nginx(tmp_path_factory.mktemp("nginx"), server.port, locations=locations) as running:
        yield running


def through(proxy: Nginx, server: RunningServer, path: str = "") -> AsyncClient:
    client = AsyncClient(proxy.address + path, token=server.token, ca=proxy.ca)
    client.api = Api(client.api.transport.with_rules(QUICK))
    return client


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_what_answers_in_place_of_the_server_is_named_with_what_to_do(
    case: Case, proxy: Nginx, server: RunningServer
) -> None:
    async with through(proxy, server, f"/{case.name}") as client:
        with pytest.raises(OmegaError) as caught:
            await client.connect()

    assert type(caught.value) is case.expected
    assert case.words in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert client.traffic.requests == (ATTEMPTS if case.is_retried else 1)


async def test_the_warning_page_for_browsers_is_skipped(
    proxy: Nginx, server: RunningServer
) -> None:
    async with through(proxy, server, "/skipped") as client:
        assert (await client.connect()).server_id


async def test_a_limit_on_the_rate_is_waited_for_as_long_as_it_says(
    proxy: Nginx, server: RunningServer
) -> None:
    async with through(proxy, server, "/rate") as client:
        with pytest.raises(Unreachable) as caught:
            await client.connect()
    assert caught.value.retry_after == 0
    proxy_says_nothing = Case("rate-2", 429, Unreachable, "", ngrok(734))
    proxy.restart(locations=proxy._locations + proxy_says_nothing.location())
    async with AsyncClient(
        proxy.address + "/rate-2", token=server.token, ca=proxy.ca, attempts=1
    ) as client:
        with pytest.raises(Unreachable) as caught:
            await client.connect()
    assert caught.value.retry_after == 60


async def test_a_certificate_of_ones_own_authority_needs_that_authority(
    proxy: Nginx, server: RunningServer, tmp_path: Path
) -> None:
    async with AsyncClient(proxy.address, token=server.token) as client:
        with pytest.raises(NotOmega21, match=r"certificate is not valid.*--ca FILE"):
            await client.connect()
    other = make_authority(tmp_path / "other")
    async with AsyncClient(proxy.address, token=server.token, ca=other.ca) as client:
        with pytest.raises(NotOmega21, match="certificate is not valid"):
            await client.connect()
    for path in (tmp_path / "none.pem", Path(__file__)):
        with pytest.raises(InvalidRequest, match="--ca takes a PEM file"):
            AsyncClient(proxy.address, ca=path)


async def test_a_certificate_for_another_name_is_refused(
    server: RunningServer, tmp_path: Path
) -> None:
    elsewhere = make_authority(tmp_path / "tls", names="DNS:elsewhere.example")
    with start_nginx(tmp_path / "nginx", server.port, authority=elsewhere) as proxy:
        async with AsyncClient(proxy.address, token=server.token, ca=proxy.ca) as client:
            with pytest.raises(NotOmega21, match="certificate is not valid"):
                await client.connect()
        assert "GET /info" not in proxy.log


def test_a_token_goes_to_no_address_without_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidAddress, match=r"not encrypted.*https://.*OMEGA21_ALLOW_HTTP"):
        AsyncClient("http://gpu.example:8000", token="secret")
    AsyncClient("http://gpu.example:8000")
    AsyncClient("http://127.0.0.1:8000", token="secret")
    monkeypatch.setenv("OMEGA21_ALLOW_HTTP", "1")
    AsyncClient("http://gpu.example:8000", token="secret")


@pytest.fixture(scope="module")
def calm(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights that come of the run that the tests disturb."""
    folder = tmp_path_factory.mktemp("calm")

    async def run() -> str:
        async with AsyncClient(server.address, token=server.token) as client:
            order = tiny("calm-gateways", epochs=4)
            return done(await train(client, order, workdir=folder)).summary.weights_sha256

    return anyio.run(run)


_ANSWERS = {
    "offline": CASES[2],
    "upstream": Case("", 502, Unreachable, "the server behind it does not"),
    "portal": Case("", 302, NotOmega21, "log in with a browser", ("Location http://login/",)),
    "page": Case("", 200, NotOmega21, "the server answered here before"),
}


@pytest.mark.parametrize("what", _ANSWERS)
async def test_what_stands_between_for_a_while_is_waited_out(
    what: str, server: RunningServer, calm: str, tmp_path: Path
) -> None:
    """The tunnel dies in the middle of a run, and the run goes on when it is mended."""
    answer = _ANSWERS[what]
    events: list[Event] = []
    with start_nginx(tmp_path / "nginx", server.port) as proxy:
        async with (
            AsyncClient(proxy.address, token=server.token, ca=proxy.ca) as client,
            client.train(
                tiny(f"cut-{what}", epochs=4), TrainOptions(workdir=tmp_path, patience=60)
            ) as training,
        ):
            async for event in training:
                events.append(event)
                if isinstance(event, RunReady):
                    everything = Case("", answer.status, answer.expected, "", answer.headers)
                    proxy.restart(locations=everything.location().replace("//", "/runs/", 1))
                if isinstance(event, LinkLost):
                    assert answer.words in event.error
                    proxy.restart(locations="")

    assert any(isinstance(event, LinkRestored) for event in events)
    assert done(events).summary.weights_sha256 == calm
    assert [step for step, _, _ in stored(tmp_path / f"cut-{what}")] == list(range(1, 41))


async def test_a_month_that_is_used_up_ends_the_waiting_and_not_the_run(
    server: RunningServer, calm: str, tmp_path: Path
) -> None:
    async def train_until_ready(client: AsyncClient, then: Callable[[], None]) -> None:
        async with client.train(
            tiny("month", epochs=4), TrainOptions(workdir=tmp_path)
        ) as training:
            async for event in training:
                if isinstance(event, RunReady):
                    then()

    used_up = Case("runs", 402, TunnelLimit, "", ngrok(725)).location()
    with start_nginx(tmp_path / "nginx", server.port) as proxy:
        async with AsyncClient(proxy.address, token=server.token, ca=proxy.ca) as client:
            with pytest.raises(TunnelLimit, match="nothing is lost"):
                await train_until_ready(client, lambda: proxy.restart(locations=used_up))
            proxy.restart(locations="")
            async with client.resume("month", TrainOptions(workdir=tmp_path)) as training:
                events = [event async for event in training]

    assert done(events).summary.weights_sha256 == calm
