"""What a model printed, on the page: as it comes, as text alone, and for such a run alone."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from omega21 import Client
from omega21.client.training.options import TrainOptions
from tests.client.training.test_own_model import own
from tests.dashboard.conftest import Open
from tests.dashboard.test_watching import prepare, train
from tests.models.code.sources import Sources
from tests.servers import RunningServer, start_server

NET = """
import warnings
from torch import nn
print("<b>loud</b> & proud")
class Net(nn.Linear):
    def forward(self, x):
        warnings.warn("step by step")
        return super().forward(x.flatten(1))
def build(schema):
    return Net(16, 10)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that has the source of a model which prints."""
    folder = tmp_path_factory.mktemp("server") / "data"
    options = ("--device", "cpu", "--threads", "1", "--allow-code")
    with start_server(folder, *options) as running:
        yield running


def train_own(server: RunningServer, run: str, workdir: Path) -> None:
    task = Sources(Path(server.data_dir) / "code").add({"net.py": NET})
    with Client(server.address) as client:
        for _event in client.train(own(run, task), TrainOptions(workdir=workdir)):
            pass


@pytest.mark.parametrize(("locale", "title"), [("en", "What the model"), ("es", "Lo que imprimió")])
def test_what_a_model_printed_is_shown_as_text(
    server: RunningServer, open_page: Open, tmp_path: Path, locale: str, title: str
) -> None:
    run = f"loud-{locale}"
    train_own(server, run, tmp_path)
    page = open_page(f"{server.address}/#{run}", locale=locale).page
    log = page.locator("#log")
    expect(log).to_contain_text("<b>loud</b> & proud")
    expect(log).to_contain_text("UserWarning: step by step")
    assert log.locator("b").count() == 0
    expect(page.get_by_role("heading", name=title)).to_be_visible()


def test_a_run_that_printed_nothing_has_no_such_card(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    prepare(http, "quiet", seed=3)
    train(http, "quiet", 30)
    watched = open_page(f"{server.address}/#quiet")
    watched.points("loss", 30)
    expect(watched.page.locator("#log-card")).to_be_hidden()
    assert not [url for url in watched.asked if "/log" in url]
