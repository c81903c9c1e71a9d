"""The page's files: small, kept by browsers, without anything inline or from elsewhere."""

import gzip
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from hatchling.builders.wheel import WheelBuilder

from omega21.server.routes.dashboard import VERSION

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "src/omega21/server/static"
SOURCES = sorted(path for path in STATIC.glob("*.*"))
TEXTS: Mapping[str, Mapping[str, str]] = json.loads((STATIC / "texts.json").read_text("utf-8"))
# uPlot 1.6.32 as its npm package has it; see vendor/README.md.
VENDORED = {
    "uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


def addresses(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="(/[^"]+)"', page)


def test_the_page_is_asked_for_again_only_when_it_changed(http: httpx.Client) -> None:
    page = http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    for known in (page.headers["etag"], f"W/{page.headers['etag']}", f'"x", "{VERSION}"'):
        again = http.get("/", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert http.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_its_files_are_kept_for_good(http: httpx.Client) -> None:
    named = [path for path in addresses(http.get("/").text) if path.startswith("/static/")]
    assert len(named) >= 5
    for path in named:
        reply = http.get(path)
        assert reply.status_code == 200, path
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        again = http.get(path, headers={"If-None-Match": reply.headers["etag"]})
        assert again.status_code == 304


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("app.js", "text/javascript"),
        ("texts.json", "application/json"),
        ("style.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
        ("vendor/uPlot.LICENSE", "text/plain"),
    ],
)
def test_types_are_named(http: httpx.Client, name: str, kind: str) -> None:
    assert http.get(f"/static/{VERSION}/{name}").headers["content-type"].startswith(kind)


@pytest.mark.parametrize(
    "path",
    [
        f"{VERSION}/none.js",
        "0123456789abcdef/app.js",
        f"{VERSION}/../dashboard.py",
        f"{VERSION}/%2e%2e/dashboard.py",
        f"{VERSION}/",
    ],
)
def test_nothing_else_is_served(http: httpx.Client, path: str) -> None:
    reply = http.get(f"/static/{path}")
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", page)
    for source in SOURCES:
        text = source.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//\w+\.\w+/|\beval\(|innerHTML|outerHTML", text), source


def test_page_and_library_are_small() -> None:
    contents = [path.read_bytes() for path in STATIC.rglob("*") if path.is_file()]
    assert sum(map(len, contents)) < 140_000
    assert len(gzip.compress(b"".join(contents))) < 50_000


def test_the_library_is_the_one_that_was_published() -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (STATIC / "vendor").glob("uPlot*")
    }
    assert found == VENDORED
    assert "1.6.32" in (STATIC / "vendor/README.md").read_text("utf-8")


def test_the_package_carries_the_page(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if "/static/" in name}
    here = [path for path in STATIC.rglob("*") if path.is_file()]
    assert packed == {f"omega21/{path.relative_to(ROOT / 'src/omega21')}" for path in here}
    assert files("omega21.server").joinpath("static/index.html").is_file()


class TestTexts:
    def test_both_languages_have_every_one(self) -> None:
        assert set(TEXTS) == {"en", "es"}
        assert set(TEXTS["en"]) == set(TEXTS["es"])

    @pytest.mark.parametrize("key", sorted(TEXTS["en"]))
    def test_both_languages_fill_in_the_same(self, key: str) -> None:
        first, second = (set(re.findall(r"\{(\w+)\}", TEXTS[lang][key])) for lang in TEXTS)
        assert first == second
        assert all(TEXTS[lang][key].strip() for lang in TEXTS)

    def test_every_one_is_used_and_every_used_one_is_there(self) -> None:
        sources = [path.read_text("utf-8") for path in SOURCES if path.suffix in (".js", ".html")]
        written = "\n".join(sources)
        quoted = set(re.findall(r"""["'](\w+)["']""", written))
        quoted |= set(re.findall(r"(\w+): \{\n", written))  # the names of charts
        made = {key for key in TEXTS["en"] if key.startswith(("state_", "event_", "advice_"))}
        assert set(TEXTS["en"]) - quoted - made == set()
        asked = set(re.findall(r"""\btext\("(\w+)\"""", written))
        asked |= set(re.findall(r"""data-(?:text|label)="(\w+)\"""", written))
        assert asked - set(TEXTS["en"]) == set()
