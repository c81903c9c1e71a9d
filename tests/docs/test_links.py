"""Links between pages lead somewhere, on GitHub and in the site."""

from pathlib import Path

import pytest

from tests.docs.markdown import GENERATED, ROOT, anchors, links, pages

ALL_PAGES = [*pages(), *sorted(GENERATED.glob("*.md"))]


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.is_relative_to(ROOT), f"{link} leaves the repository"
        assert file.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(file), f"{link}: no such heading"


def test_every_page_of_the_site_can_be_reached_from_its_first() -> None:
    first = ROOT / "docs" / "index.md"
    reached, waiting = {first}, [first]
    while waiting:
        page = waiting.pop()
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target not in reached:
                reached.add(target)
                waiting.append(target)

    decisions = ROOT / "docs" / "decisions"  # found by its own list in the menu
    site = {page for page in ROOT.glob("docs/**/*.md") if decisions not in page.parents}
    assert site - reached == set()
