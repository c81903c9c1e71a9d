"""A real Chromium on the page of a real server; it may say nothing and ask nobody else."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from tests.programs import require_program
from tests.servers import RunningServer, start_server

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 60_000
"""A wait that takes longer has hung."""

expect.set_options(timeout=PATIENCE_MS)

DESKTOP = {"width": 1360, "height": 900}
PHONE = {"width": 390, "height": 844}


@dataclass
class Watched:
    """A page, with what it said and whom it asked."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"{message.text} {message.location['url']}")

    def forgive(self, *words: str) -> None:
        """Forget complaints with one of these words: those that a test has provoked."""
        self.said[:] = [line for line in self.said if not any(word in line for word in words)]

    def forgive_cut(self) -> None:
        """Forget that requests ended with a server that the test has killed, at whatever byte."""
        self.forgive(
            "ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "ERR_CONTENT_LENGTH_MISMATCH",
            "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_SOCKET_NOT_CONNECTED",
        )  # fmt: skip

    def points(self, chart: str, count: int) -> None:
        """Wait until a chart or a map shows this many points."""
        place = f'[data-chart="{chart}"], [data-map="{chart}"]'
        self.page.locator(place).and_(self.page.locator(f'[data-points="{count}"]')).wait_for(
            state="attached"
        )

    @property
    def strangers(self) -> set[str]:
        """Whom it asked beside the server that the page is from."""
        home = urlsplit(self.page.url).netloc
        return {urlsplit(url).netloc for url in self.asked} - {home}


Open = Callable[..., Watched]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = require_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for the tests that do not harm it."""
    folder = tmp_path_factory.mktemp("server") / "data"
    with start_server(folder, "--device", "cpu", "--threads", "1") as running:
        yield running


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[[], RunningServer]]:
    """Starts servers of this test's own."""
    with ExitStack() as held:
        yield lambda **options: held.enter_context(
            start_server(tmp_path / "data", "--device", "cpu", "--threads", "1", **options)
        )


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens an address in a browser of its own: language, size and colours as options say."""
    opened: list[tuple[BrowserContext, Watched]] = []

    def open_one(address: str, *, goto: bool = True, **options: Any) -> Watched:
        settings = {"locale": "en-US", "viewport": DESKTOP, "timezone_id": "UTC"} | options
        context = browser.new_context(**settings)
        context.set_default_timeout(PATIENCE_MS)
        watched = Watched(context.new_page())
        opened.append((context, watched))
        if goto:
            watched.page.goto(address)
        return watched

    yield open_one
    strangers = set[str]().union(*(watched.strangers for _, watched in opened))
    said = [words for _, watched in opened for words in watched.said]
    for context, _ in opened:
        context.close()
    assert strangers == set()
    assert said == []
