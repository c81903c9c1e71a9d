"""The map of the source, in docs/architecture.md and in both READMEs, is what is there."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT

SOURCE = ROOT / "src" / "omega21"
PAGE = ROOT / "docs" / "architecture.md"


def folders(top: Path) -> set[str]:
    """Every folder of modules, as the page writes them: `client/http/`."""
    found = {path.parent for path in top.rglob("*.py")} - {top}
    return {f"{path.relative_to(top).as_posix()}/" for path in found}


def rows(page: Path) -> set[str]:
    """Every path in the first column of a table."""
    lines = (line for line in page.read_text("utf-8").splitlines() if line.startswith("| `"))
    return {path for line in lines for path in re.findall(r"`([^`]+)`", line.split("|")[1])}


def test_every_folder_has_a_row() -> None:
    assert len(folders(SOURCE)) > 20
    assert folders(SOURCE) - rows(PAGE) == set()


def test_every_path_on_the_page_is_there() -> None:
    named = re.findall(r"`((?:[\w.]+/)+[\w.]*)`", PAGE.read_text("utf-8"))
    assert len(named) > 40
    assert [
        path
        for path in named
        if not any((top / path).exists() or (top / f"{path}.py").exists() for top in (SOURCE, ROOT))
        and not path.startswith("application/")
    ] == []


@pytest.mark.parametrize("name", ["README.md", "README.es.md"])
def test_the_layout_of_a_readme_is_whole(name: str) -> None:
    named = {path for path in rows(ROOT / name) if "/" in path}
    assert [path for path in named if not (ROOT / path).exists()] == []
    packages = {f"src/omega21/{path.name}/" for path in SOURCE.iterdir() if path.is_dir()}
    assert packages - named - {"src/omega21/__pycache__/"} == set()
