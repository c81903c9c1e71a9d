"""The list of runs: it stands still under the hand, and stays of use with forty of them."""

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import PHONE, Open
from tests.dashboard.test_watching import prepare, train
from tests.server.routes.test_history import record
from tests.server.routes.test_runs import make_run, put_segment, put_shard, segment, shard
from tests.servers import RunningServer

MANY = 40


@pytest.fixture(scope="module")
def many(server: RunningServer) -> RunningServer:
    """Forty runs, whose names differ at their ends, two of them trained."""
    with httpx.Client(base_url=server.address, timeout=60) as http:
        for number in range(MANY):
            make_run(http, f"a-long-name-for-a-sweep-over-rates-{number:02d}")
        for name, seed in (("trained-1", 1), ("trained-2", 2)):
            prepare(http, name, seed=seed)
            train(http, name, 3)
        record(http, "trained-1", step=3, metrics={"auroc": 0.9996})
        record(http, "trained-2", step=3, metrics={"auroc": 0.5})
    return server


def test_a_list_that_is_read_again_keeps_focus_and_nodes(
    many: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    prepare(http, "busy", seed=3)
    watched = open_page(f"{many.address}/#busy")
    page = watched.page
    link = page.locator("#runs a", has_text="trained-1")
    expect(link).to_be_visible()
    page.evaluate(
        """() => {
            window.removed = 0;
            new MutationObserver((changes) => {
                for (const change of changes) window.removed += change.removedNodes.length;
            }).observe(document.getElementById("runs"), { childList: true });
        }"""
    )
    link.focus()
    for step in range(1, 6):
        train(http, "busy", step)
        watched.points("loss", step)
        expect(link).to_be_focused()
    assert page.evaluate("window.removed") == 0
    link.click(timeout=5000)
    expect(page.locator("#run-name")).to_have_text("trained-1")


def test_forty_runs_are_filtered_sorted_and_told_apart(
    many: RunningServer, open_page: Open
) -> None:
    page = open_page(f"{many.address}/#trained-1").page
    expect(page.locator("#runs-tools")).to_be_visible()
    trained = page.locator("#runs a", has_text="trained-")
    expect(trained.filter(has_text="AUROC 0.9996")).to_have_count(1)
    expect(page.locator("#figures")).to_contain_text("0.9996")
    page.locator("#runs-order").select_option("auroc")
    expect(page.locator("#runs a").first).to_contain_text("trained-1")
    page.locator("#runs-filter").fill("rates-07")
    expect(page.locator("#runs a")).to_have_count(2)  # and the one that is shown
    page.locator("#runs-filter").fill("")
    ends = page.locator("#runs .end", has_text="rates-07")
    box, end = page.locator("#runs").bounding_box(), ends.bounding_box()
    assert box is not None
    assert end is not None
    assert end["x"] + end["width"] <= box["x"] + box["width"]
    height = page.evaluate("document.querySelector('nav.runs').getBoundingClientRect().height")
    assert height <= page.evaluate("window.innerHeight")


def test_a_run_that_diverged_says_so_and_what_to_do(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    make_run(http, "diverged")
    tensors = shard(5, 80)
    tensors["x"][:] = 1e30
    put_shard(http, tensors)
    put_segment(http, "diverged", segment(tensors, samples=80))
    train(http, "diverged", 10)
    page = open_page(f"{server.address}/#diverged").page
    expect(page.locator("#run-state")).to_have_attribute("data-state", "diverged")
    expect(page.locator("#reason")).to_contain_text("step")
    expect(page.locator("#advice")).not_to_be_empty()
    expect(page.locator('#events [data-kind="diverged"]')).to_be_visible()


@pytest.mark.parametrize("name", ["%", "%E0%A4%A", "%zz"])
def test_an_address_that_cannot_be_decoded_blanks_no_page(
    many: RunningServer, open_page: Open, name: str
) -> None:
    watched = open_page(f"{many.address}/#{name}")
    expect(watched.page.locator("#missing")).to_be_visible()
    watched.forgive("422", "404")


@pytest.mark.parametrize("viewport", [None, PHONE])
def test_a_server_without_runs_shows_one_card_with_the_command(
    new_server: Callable[[], RunningServer], open_page: Open, viewport: dict[str, int] | None
) -> None:
    server = new_server()
    options = {} if viewport is None else {"viewport": viewport}
    page = open_page(server.address, **options).page
    expect(page.locator("#empty-command")).to_have_text(f"omega21 train {server.address}")
    expect(page.locator("#run")).to_be_hidden()
    with httpx.Client(base_url=server.address, timeout=60) as http:
        prepare(http, "first", seed=4)
        train(http, "first", 3)
    expect(page.locator("#run-name")).to_have_text("first")
    expect(page.locator("#empty")).to_be_hidden()
    expect(page.locator("#plan")).to_contain_text("epoch 1 of 1 · batches of 4")
    expect(page.locator("#plan")).to_contain_text("learning rate 0.001")
