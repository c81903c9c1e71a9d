"""What a person sees: a run as it trains, a server that goes and comes, and what is not there."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from omega21.models.registry import default_config
from tests.dashboard.conftest import PHONE, Open, Watched
from tests.server.routes.test_history import record
from tests.server.routes.test_runs import (
    advance,
    id_of,
    make_run,
    put_segment,
    put_shard,
    read_steps,
    segment,
    shard,
)
from tests.servers import RunningServer

MARKUP = '<img src="x" onerror="document.title=\'owned\'"><b id="injected">bold</b>'

# How many colours a picture has.
INKED = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const colors = new Set();
    for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3]) colors.add(data.slice(i, i + 3).join());
    }
    return colors.size;
}"""


def prepare(http: httpx.Client, run: str, *, seed: int) -> None:
    """Make a run of thirty steps, and train none of them."""
    make_run(http, run)
    tensors = shard(seed, 120)
    put_shard(http, tensors)
    put_segment(http, run, segment(tensors, samples=120))


def train(http: httpx.Client, run: str, to: int) -> None:
    advance(http, run, to)
    read_steps(http, run, after=to - 1, wait=25)


def give_feedback(http: httpx.Client, run: str, *, validated: bool) -> None:
    body = {"ajustes_aplicados": [0.5] * 16, "validacion": validated}
    assert http.post("/feedback_dendritas", params={"run": run}, json=body).is_success


def figure(page: Page, name: str) -> str:
    row = page.locator("#figures div").filter(has=page.locator("dt", has_text=name))
    return row.locator("dd").inner_text()


def test_a_run_is_seen_as_it_trains(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    prepare(http, "seen", seed=1)
    train(http, "seen", 4)
    watched = open_page(f"{server.address}/#seen")
    page = watched.page
    for chart in ("loss", "metric-anomaly_prob", "throughput", "dendrites", "coherence"):
        watched.points(chart, 4)
    expect(page.locator("#position")).to_contain_text("Step 4 of 4")

    train(http, "seen", 9)  # nobody touches the page
    for chart in ("loss", "dendrites"):
        watched.points(chart, 9)
    expect(page.locator("#position")).to_contain_text("Step 9 of 9")
    losses = read_steps(http, "seen").steps
    newest = float(page.locator('[data-chart="loss"] .legend b').first.inner_text())
    assert newest == pytest.approx(losses[-1].loss, rel=1e-3)

    watched.points("evaluation", 0)
    record(http, "seen", step=5, metrics={"auroc": 0.875, "average_precision": 0.5})
    watched.points("evaluation", 1)
    assert figure(page, "AUROC at step 5") == "0.8750"  # the run is at step 9
    record(http, "seen", step=9, metrics={"auroc": 0.99996, "average_precision": 0.5})
    watched.points("evaluation", 2)
    assert figure(page, "AUROC") == "0.99996"
    expect(page.locator("#figures")).not_to_contain_text("at step")

    for validated in (True, True, False, True):
        give_feedback(http, "seen", validated=validated)
    expect(page.locator("#feedback .dim")).to_have_text("validated, 3 of 4")
    assert figure(page, "Feedback") == "75%"
    expect(page.locator("#feedback .strip i.yes")).to_have_count(3)
    expect(page.locator('#events [data-kind="started"]')).to_be_visible()
    expect(page.locator("#server")).to_contain_text("CortezaCognitivaV4")
    assert page.title() == "100% · seen · omega21"
    assert not page.url.partition("?")[2]


def test_the_metrics_of_any_model_are_shown_by_their_names(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    prepare(http, "named", seed=13)
    train(http, "named", 9)

    def rename(route: Route) -> None:
        """What a model of the user's own may give: any names, gaps, vectors of any size."""
        message = route.fetch().json()
        steps = message["points"]["step"]
        columns = {
            "top-1": [0.125 * (step % 8) for step in steps],
            "constructor": [None] * len(steps),
            "__proto__": [float(step) for step in steps],
        }
        message["points"]["metrics"] = columns
        values = base64.b64encode(bytes(range(3 * len(steps)))).decode()
        message["points"]["vectors"] = {"gates": {"size": 3, "scale": 254.0, "values": values}}
        message["labels"], message["headline"] = {}, list(columns)
        route.fulfill(json=message)

    def score(route: Route) -> None:
        row: dict[str, Any] = {
            "number": 1,
            "at": 0.0,
            "step": 5,
            "samples": 9,
            "not_finite": 0,
            "loss": 0.5,
        }
        row["metrics"] = {"top-1": 0.5, "perplexity": 12.5}
        route.fulfill(json={"run": "named", "evaluations": [row]})

    record(http, "named")
    watched = open_page(server.address, goto=False)
    page = watched.page
    page.route("**/series?*", rename)
    page.route("**/evaluations?*", score)
    page.goto(f"{server.address}/#named")
    for name in ("top-1", "constructor", "__proto__", "perplexity"):
        watched.points(f"metric-{name}", 9)
        expect(page.locator(f'[data-chart="metric-{name}"] h2')).to_have_text(name)
    chart = page.locator('[data-chart="metric-top-1"]')
    expect(chart.locator(".legend")).to_contain_text("Held-out samples 0.5000")
    expect(page.locator('[data-chart="evaluation"]')).to_be_hidden()
    watched.points("gates", 9)
    page.locator('[data-map="gates"] canvas').focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator('[data-map="gates"] output')).to_have_text("Step 8, number 1: +42")
    assert figure(page, "__proto__") == "9"
    assert figure(page, "top-1, held out at step 5") == "0.5000"
    page.unroute_all(behavior="ignoreErrors")


def test_labels_are_in_the_language_of_the_page(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    prepare(http, "labelled", seed=14)
    train(http, "labelled", 2)
    for locale, label in (("en-US", "Anomaly probability"), ("es-ES", "Probabilidad de anomalía")):
        page = open_page(f"{server.address}/#labelled", locale=locale).page
        expect(page.locator('[data-chart="metric-anomaly_prob"] h2')).to_have_text(label)


def test_a_drawing_has_ink(server: RunningServer, http: httpx.Client, open_page: Open) -> None:
    prepare(http, "drawn", seed=2)
    train(http, "drawn", 30)
    watched = open_page(f"{server.address}/#drawn")
    watched.points("loss", 30)
    assert watched.page.locator('[data-chart="loss"] canvas').evaluate(INKED) > 3
    assert watched.page.locator('[data-map="coherence"] canvas').evaluate(INKED) > 20


def test_a_loss_that_falls_through_eight_powers_of_ten_and_to_zero_is_drawn(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    prepare(http, "falling", seed=12)
    train(http, "falling", 9)

    def fall(route: Route) -> None:
        reply = route.fetch()
        message = reply.json()
        for name in ("loss", "loss_min", "loss_max"):
            message["points"][name] = [
                1.83399 * 10**-n if n < 9 else 0 for n in message["points"]["step"]
            ]
        route.fulfill(response=reply, json=message)

    watched = open_page(server.address, goto=False)
    watched.page.route("**/series?*", fall)
    watched.page.goto(f"{server.address}/#falling")
    watched.points("loss", 9)
    expect(watched.page.locator('[data-chart="loss"] canvas')).to_be_visible()
    expect(watched.page.locator('[data-chart="memory"]')).to_have_attribute(
        "data-points", re.compile("[1-9]")
    )
    assert watched.page.locator('[data-chart="loss"] canvas').evaluate(INKED) > 3
    watched.page.unroute_all(behavior="ignoreErrors")


def test_a_refused_step_is_an_event(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    make_run(http, "spoilt")
    tensors = shard(3, 20)
    tensors["x"][5] = 1e30
    put_shard(http, tensors)
    put_segment(http, "spoilt", segment(tensors, samples=20))
    train(http, "spoilt", 5)
    page = open_page(f"{server.address}/#spoilt").page
    expect(page.locator('#events [data-kind="non_finite"]')).to_contain_text(
        "Step 2 was not finite"
    )


def test_a_server_that_is_gone_is_said_to_be_and_found_again(
    new_server: Callable[[], RunningServer], open_page: Open
) -> None:
    server = new_server()
    with httpx.Client(base_url=server.address, timeout=60) as http:
        prepare(http, "cut", seed=4)
        train(http, "cut", 5)
        watched = open_page(f"{server.address}/#cut")
        page = watched.page
        watched.points("loss", 5)
        expect(page.locator("#link")).to_have_text("Connected")

        server.kill()
        expect(page.locator("#lost")).to_contain_text("The server does not answer.")
        expect(page.locator("#link")).to_have_text("Not connected")
        watched.points("loss", 5)  # what was seen stays

    server.restart()
    with httpx.Client(base_url=server.address, timeout=60) as http:
        expect(page.locator("#link")).to_have_text("Connected")
        expect(page.locator("#lost")).to_be_hidden()
        train(http, "cut", 12)
        watched.points("loss", 12)
        watched.points("dendrites", 12)
    watched.forgive_cut()


def test_a_replaced_server_process_is_an_event(
    new_server: Callable[[], RunningServer], open_page: Open
) -> None:
    server = new_server()
    watched = open_page(f"{server.address}/#default")
    expect(watched.page.locator("#link")).to_have_text("Connected")
    server.kill_child()
    event = watched.page.locator('#events [data-kind="restarted"]')
    expect(event).to_contain_text("SIGKILL")
    expect(watched.page.locator("#link")).to_have_text("Connected")
    watched.forgive_cut()


def test_a_run_that_does_not_exist_is_said_and_shown_when_it_comes(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    watched = open_page(f"{server.address}/#tomorrow")
    page = watched.page
    expect(page.locator("#missing")).to_contain_text("no run named “tomorrow”")
    expect(page.locator("#run")).to_be_hidden()
    make_run(http, "tomorrow")
    expect(page.locator("#run-name")).to_have_text("tomorrow")
    expect(page.locator("#missing")).to_be_hidden()
    watched.forgive("404")


def test_a_run_is_chosen_from_the_list(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    prepare(http, "first", seed=5)
    prepare(http, "second", seed=6)
    train(http, "second", 3)
    watched = open_page(f"{server.address}/#first")
    page = watched.page
    expect(page.locator('#runs a[aria-current="page"]')).to_contain_text("first")
    expect(page.locator('[data-chart="loss"] .empty')).to_have_text("Nothing yet")
    page.locator("#runs a", has_text="second").click()
    watched.points("loss", 3)
    expect(page.locator('#runs a[aria-current="page"]')).to_contain_text("second")
    page.go_back()
    expect(page.locator("#run-name")).to_have_text("first")


def test_a_hidden_page_does_not_wait_at_the_server(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    prepare(http, "hidden", seed=7)
    train(http, "hidden", 2)
    watched = open_page(f"{server.address}/#hidden", goto=False)
    page = watched.page
    page.add_init_script(
        """let gone = false;
        Object.defineProperty(document, "hidden", { get: () => gone });
        window.leave = (now) => {
            gone = now;
            document.dispatchEvent(new Event("visibilitychange"));
        };"""
    )
    with page.expect_request(re.compile(r"series\?.*wait=24\.5")):
        page.goto(f"{server.address}/#hidden")
    with page.expect_request(re.compile(r"series\?.*wait=0&")):
        page.evaluate("leave(true)")
    train(http, "hidden", 6)
    with page.expect_request(re.compile(r"series\?.*wait=24\.5")):
        page.evaluate("leave(false)")
    watched.points("loss", 6)


def test_it_speaks_spanish_and_fits_a_phone(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    prepare(http, "una-corrida-de-nombre-muy-largo-que-no-cabe-en-un-telefono", seed=8)
    train(http, "una-corrida-de-nombre-muy-largo-que-no-cabe-en-un-telefono", 30)
    address = f"{server.address}/#una-corrida-de-nombre-muy-largo-que-no-cabe-en-un-telefono"
    watched = open_page(address, locale="es-AR", viewport=PHONE, has_touch=True)
    page = watched.page
    watched.points("loss", 30)
    expect(page.locator("html")).to_have_attribute("lang", "es")
    expect(page.locator("#needs-script")).to_have_count(0)
    expect(page.locator("#position")).to_contain_text("Paso 30 de 30")
    expect(page.locator('[data-chart="loss"] h2')).to_have_text("Pérdida")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("button", name="English").tap()
    expect(page.locator("#position")).to_contain_text("Step 30 of 30")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.reload()
    expect(page.locator('[data-chart="loss"] h2')).to_have_text("Loss")


def test_without_javascript_it_says_what_to_do(server: RunningServer, open_page: Open) -> None:
    page = open_page(server.address, java_script_enabled=False).page
    notice = page.locator("#needs-script")
    expect(notice).to_be_visible()
    for words in ("This page needs JavaScript", "Esta página necesita JavaScript"):
        expect(notice).to_contain_text(words)
    for command in ("omega21 watch", "omega21 status"):
        expect(notice).to_contain_text(command)
    expect(page.locator("#board")).to_be_hidden()
    expect(page.locator("#login")).to_be_hidden()


def test_text_is_never_markup(server: RunningServer, http: httpx.Client, open_page: Open) -> None:
    """Whatever a server may say: its replies, with each text in them replaced."""
    prepare(http, "plain", seed=9)
    train(http, "plain", 2)
    record(http, "plain")
    give_feedback(http, "plain", validated=True)

    def poison(route: Route) -> None:
        reply = route.fetch()
        route.fulfill(response=reply, body=json.dumps(poisoned(reply.json())))

    watched = open_page(server.address, goto=False)
    page = watched.page
    for path in ("**/runs", "**/status?*", "**/events?*", "**/series?*", "**/feedback*"):
        page.route(path, poison)
    page.goto(f"{server.address}/#plain")
    watched.points("loss", 2)
    for place in ("#run-name", "#reason", "#events", "#server", "#runs"):
        expect(page.locator(place)).to_contain_text(MARKUP)
    page.goto(f"{server.address}/#{MARKUP}")
    expect(page.locator("#missing")).to_contain_text("bold")
    assert page.locator("#injected, img").count() == 0
    assert "owned" not in page.title()
    page.unroute_all(behavior="ignoreErrors")
    watched.forgive("422", "404")  # no run can have such a name


def poisoned(message: Any) -> Any:
    """Replace each text that a person reads."""
    if isinstance(message, list):
        return [poisoned(item) for item in message]
    if not isinstance(message, dict):
        return message
    texts = {"run", "reason", "detail", "modelo", "dispositivo", "torch_version"}
    poison = {key: MARKUP if key in texts else poisoned(item) for key, item in message.items()}
    if "labels" in message:
        poison["labels"] = dict.fromkeys(message["labels"], MARKUP)
    return poison


class TestByKeyboard:
    @pytest.fixture
    def watched(self, server: RunningServer, http: httpx.Client, open_page: Open) -> Watched:
        if http.get("/runs/keys").status_code == 404:
            prepare(http, "keys", seed=10)
            train(http, "keys", 5)
        watched = open_page(f"{server.address}/#keys")
        watched.points("coherence", 5)
        return watched

    def test_the_first_stop_leads_to_the_content(self, watched: Watched) -> None:
        page = watched.page
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("To the content")
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        expect(page.locator("#run-name")).to_have_text("keys")

    def test_every_stop_is_seen(self, watched: Watched) -> None:
        page = watched.page
        stops = set()
        for _ in range(30):
            page.keyboard.press("Tab")
            seen = page.evaluate(
                """() => { const e = document.activeElement; const s = getComputedStyle(e);
                return [e.tagName, e.textContent.slice(0, 30), s.outlineStyle, s.outlineWidth]; }"""
            )
            if seen[0] != "BODY":
                assert seen[2:] == ["solid", "3px"], seen
                stops.add(seen[0])
        assert {"A", "BUTTON", "CANVAS", "SUMMARY"} <= stops

    def test_a_map_is_read_value_by_value(self, watched: Watched) -> None:
        page = watched.page
        page.locator('[data-map="dendrites"] canvas').focus()
        page.keyboard.press("ArrowLeft")
        reading = page.locator('[data-map="dendrites"] output')
        expect(reading).to_contain_text("Step 4, number 1:")
        page.keyboard.press("ArrowDown")
        expect(reading).to_contain_text("Step 4, number 2:")

    def test_every_chart_is_a_table_too(self, watched: Watched) -> None:
        page = watched.page
        for chart in page.locator("[data-chart]:not([data-points='0']), [data-map]").all():
            chart.locator("summary").press("Enter")
            rows = chart.locator("tbody tr")
            expect(rows.first).to_be_visible()
            assert chart.locator("thead th[scope=col]").count() >= 2


def test_other_runs_ids_are_not_confused(
    server: RunningServer, http: httpx.Client, open_page: Open
) -> None:
    """A run removed and made again under its name begins anew on the page."""
    prepare(http, "anew", seed=11)
    train(http, "anew", 6)
    watched = open_page(f"{server.address}/#anew")
    watched.points("loss", 6)
    http.delete("/runs/anew", params={"run_id": id_of("anew")})
    body = {"id": "c" * 32, "config": default_config().model_dump(mode="json")}
    assert http.put("/runs/anew", json=body).is_success
    watched.points("loss", 0)
    watched.forgive("404")
