"""What a screen reader and a weak eye need: names, landmarks, headings, contrast, still pictures.

Checked in the browser, on the page as it stands, in both themes.
"""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import PHONE, Open, Watched
from tests.dashboard.test_watching import give_feedback, prepare, train
from tests.server.routes.test_history import record
from tests.servers import RunningServer

CONTRAST = 4.5

# For each piece of text that is seen: its colour over the first ground below it, as a ratio.
FAINT_TEXTS = """least => {
    const parse = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = (color) => {
        const [r, g, b] = parse(color).map((part) => {
            part /= 255;
            return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor;
            if (!color.startsWith("rgba") || parse(color)[3] === 1) return color;
        }
        return "rgb(255, 255, 255)";
    };
    const faint = [];
    let seen = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (!node.textContent.trim() || !element.checkVisibility()) continue;
        const light = luminance(getComputedStyle(element).color);
        const dark = luminance(ground(element));
        const ratio = (Math.max(light, dark) + 0.05) / (Math.min(light, dark) + 0.05);
        seen += 1;
        if (ratio < least) faint.push([node.textContent, ratio]);
    }
    return { seen, faint };
}"""

UNNAMED = """() => {
    const named = (element) => element.getAttribute("aria-label")
        || document.getElementById(element.getAttribute("aria-labelledby"))?.textContent
        || [...(element.labels ?? [])].map((label) => label.textContent).join("")
        || element.textContent;
    const kinds = "a, button, input, progress, nav, section, [role=img], [role=region]";
    return [...document.querySelectorAll(kinds)]
        .filter((e) => e.checkVisibility() && !named(e)?.trim())
        .map((e) => e.outerHTML.slice(0, 120));
}"""

STRUCTURE = """() => {
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    const references = ["aria-labelledby", "aria-describedby", "for"];
    const targets = [...document.querySelectorAll(references.map((name) => `[${name}]`))]
        .flatMap((e) => references.map((name) => e.getAttribute(name))).filter(Boolean);
    const seen = [...document.querySelectorAll("h1, h2, h3")].filter((e) => e.checkVisibility());
    return {
        twice: ids.filter((id, i) => ids.indexOf(id) !== i),
        nowhere: targets.filter((id) => !document.getElementById(id)),
        headings: seen.map((heading) => Number(heading.tagName[1])),
        landmarks: ["header", "main", "nav", "footer"].map(
            (name) => document.querySelectorAll(`body ${name}`).length),
    };
}"""

SMALL_TARGETS = """() => [...document.querySelectorAll("a, button, summary, input")]
    .filter((e) => e.checkVisibility() && !e.matches(".skip"))
    .map((e) => [e.textContent.trim(), e.getBoundingClientRect()])
    .filter(([, box]) => box.height < 24 || box.width < 24)
    .map(([name, box]) => [name, box.width, box.height])"""


@pytest.fixture
def full(server: RunningServer, http: httpx.Client) -> str:
    """The address of a run that has something of everything."""
    if http.get("/runs/full").status_code == 404:
        prepare(http, "full", seed=21)
        train(http, "full", 30)
        record(http, "full")
        give_feedback(http, "full", validated=True)
    return f"{server.address}/#full"


def look(watched: Watched) -> Page:
    watched.points("coherence", 30)
    watched.points("evaluation", 1)
    expect(watched.page.locator("#feedback .rate")).to_be_visible()
    return watched.page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_every_text_stands_out(
    full: str, open_page: Open, scheme: str, viewport: dict[str, int] | None
) -> None:
    size: dict[str, Any] = {"viewport": viewport} if viewport else {}
    page = look(open_page(full, color_scheme=scheme, **size))
    for summary in page.locator("summary").all():
        summary.click()
    found = page.evaluate(FAINT_TEXTS, CONTRAST)
    assert found["seen"] > 100
    assert found["faint"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_a_lost_server_and_of_the_login_stands_out(
    server: RunningServer, open_page: Open, scheme: str
) -> None:
    watched = open_page(server.address, goto=False, color_scheme=scheme)
    page = watched.page
    page.route("**/session", lambda route: route.fulfill(json=SIGNED_OUT))
    page.goto(server.address)
    expect(page.get_by_role("textbox", name="Token")).to_be_visible()
    assert page.evaluate(FAINT_TEXTS, CONTRAST)["faint"] == []
    page.unroute_all()
    page.route("**/session", lambda route: route.abort())
    page.reload()
    expect(page.locator("#lost")).to_be_visible()
    assert page.evaluate(FAINT_TEXTS, CONTRAST)["faint"] == []
    watched.forgive("ERR_FAILED")


SIGNED_OUT = {"login_needed": True, "logged_in": False}


def test_everything_has_a_name_and_a_place(full: str, open_page: Open) -> None:
    page = look(open_page(full))
    assert page.evaluate(UNNAMED) == []
    structure = page.evaluate(STRUCTURE)
    assert structure["twice"] == []
    assert structure["nowhere"] == []
    assert structure["headings"].count(1) == 1
    assert set(structure["headings"]) == {1, 2}
    assert structure["landmarks"][1:] == [1, 1, 1]


def test_targets_are_large_enough_for_a_finger(full: str, open_page: Open) -> None:
    page = look(open_page(full, viewport=PHONE, has_touch=True))
    assert page.evaluate(SMALL_TARGETS) == []


def test_pictures_are_described_and_say_their_newest_value(full: str, open_page: Open) -> None:
    page = look(open_page(full))
    pictures = page.get_by_role("img").all()
    assert len(pictures) == 12
    names = [picture.get_attribute("aria-label") or "" for picture in pictures]
    assert any(name.startswith("Loss, newest value: Loss ") for name in names)
    assert any(name.startswith("Dendrites over the steps: 16 values") for name in names)


def test_nothing_moves_for_who_asked_for_that(full: str, open_page: Open) -> None:
    page = look(open_page(full, reduced_motion="reduce"))
    moving = page.evaluate(
        """() => [...document.querySelectorAll("*")].filter((e) => {
            const s = getComputedStyle(e);
            return s.animationName !== "none" || parseFloat(s.transitionDuration) > 0;
        }).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert moving == []


def test_only_the_state_of_the_link_is_read_out(full: str, open_page: Open) -> None:
    page = look(open_page(full))
    live = page.locator("[aria-live], [role=status], [role=alert], output")
    names = [element.get_attribute("id") for element in live.all() if element.is_visible()]
    assert [name for name in names if name] == ["link"]
