"""Who has no token sees the login and nothing else; who has it gives it once."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import Open
from tests.dashboard.test_watching import prepare, train
from tests.servers import RunningServer, start_server

TOKEN = "a-token-of-the-browser-tests"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("guarded") / "data"
    with start_server(folder, "--device", "cpu", "--threads", "1", token=TOKEN) as running:
        with httpx.Client(
            base_url=running.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
        ) as http:
            prepare(http, "secret", seed=1)
            train(http, "secret", 5)
        yield running


def test_without_a_token_there_is_only_the_login(guarded: RunningServer, open_page: Open) -> None:
    watched = open_page(f"{guarded.address}/#secret")
    page = watched.page
    expect(page.get_by_role("textbox", name="Token")).to_be_focused()
    expect(page.locator("#board")).to_be_hidden()
    assert "secret" not in page.locator("body").inner_text()
    asked = [url.removeprefix(guarded.address) for url in watched.asked]
    assert [path for path in asked if not path.startswith("/static/")] == ["/", "/session"]


def test_a_wrong_token_is_refused_in_words(guarded: RunningServer, open_page: Open) -> None:
    watched = open_page(guarded.address)
    page = watched.page
    page.get_by_role("textbox", name="Token").fill("not-the-token")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#login-error")).to_contain_text("not the server's token")
    expect(page.locator("#board")).to_be_hidden()
    watched.forgive("401")


def test_the_token_is_asked_for_once_and_stays_out_of_sight(
    guarded: RunningServer, open_page: Open
) -> None:
    watched = open_page(f"{guarded.address}/#secret")
    page = watched.page
    page.get_by_role("textbox", name="Token").fill(TOKEN)
    page.keyboard.press("Enter")
    watched.points("loss", 5)
    expect(page.locator("#login")).to_be_hidden()

    (cookie,) = page.context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Strict")
    kept = page.evaluate("JSON.stringify([document.cookie, {...localStorage}, location.href])")
    assert TOKEN not in kept + str(cookie.get("value"))
    assert page.locator("#token").input_value() == ""
    assert not any(TOKEN in url for url in watched.asked)

    page.reload()
    watched.points("loss", 5)  # and nobody asked


def test_after_the_logout_it_is_asked_for_again(guarded: RunningServer, open_page: Open) -> None:
    watched = open_page(f"{guarded.address}/#secret")
    page = watched.page
    page.get_by_role("textbox", name="Token").fill(TOKEN)
    page.keyboard.press("Enter")
    watched.points("loss", 5)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("textbox", name="Token")).to_be_visible()
    expect(page.locator("#board")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("textbox", name="Token")).to_be_visible()


def test_a_session_that_ended_is_said_to_have(guarded: RunningServer, open_page: Open) -> None:
    watched = open_page(f"{guarded.address}/#secret")
    page = watched.page
    page.get_by_role("textbox", name="Token").fill(TOKEN)
    page.keyboard.press("Enter")
    watched.points("loss", 5)
    page.context.clear_cookies()
    with httpx.Client(
        base_url=guarded.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
    ) as http:
        train(http, "secret", 6)  # ends the poll that was let in; the next one is not
    expect(page.locator("#login-error")).to_contain_text("The session has ended")
    expect(page.locator("#board")).to_be_hidden()
    watched.forgive("401")
