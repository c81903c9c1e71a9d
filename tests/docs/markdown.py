"""What a page of Markdown holds that can be checked: its blocks of code, its links, its headings.

A block that cannot run here says why in a comment before it:

    <!-- not run: needs a Colab notebook -->
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs" / "reference"

_FENCE = re.compile(
    r"(?P<fence>`{3,})(?P<language>\w*)\n(?P<text>.*?)\n[ ]*(?P=fence)$", re.MULTILINE | re.DOTALL
)
_MARKER = re.compile(r"<!-- not run: (?P<reason>[^\n]+) -->\s*\Z")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)|(?:src|srcset)=\"(?P<source>[^\"]+)\"")
_SPAN = re.compile(r"(?<!`)`(?P<text>[^`\n]+)`(?!`)")
_HEADING = re.compile(r"^#{1,6} +(?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, what it holds, and why it is not run, if it is not."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> str:
        """The shell script in it: of a `console` block the lines after a prompt."""
        if self.language != "console":
            return self.text
        lines: list[str] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                lines.append(line.removeprefix("$ "))
            elif lines and lines[-1].endswith("\\") and line.startswith("> "):
                lines.append(line.removeprefix("> "))
        return "\n".join(lines)

    @property
    def shown_output(self) -> list[str]:
        """The lines of a `console` block that a command has printed."""
        if self.language != "console":
            return []
        return [
            line for line in self.text.splitlines() if line and not line.startswith(("$ ", "> "))
        ]


def pages() -> list[Path]:
    """Every page for users: all but the generated reference."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted(page for page in found if GENERATED not in page.parents)


def blocks(page: Path) -> Iterator[Block]:
    """Yield a page's fenced blocks, in order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        marker = _MARKER.search(text, 0, found.start())
        yield Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=found["text"],
            not_run=marker["reason"] if marker else None,
        )


def spans(page: Path) -> Iterator[str]:
    """Yield what a page has between single backquotes, outside its blocks."""
    for found in _SPAN.finditer(_prose(page)):
        yield found["text"]


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links and images."""
    for found in _LINK.finditer(_prose(page)):
        yield found["target"] or found["source"]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as both GitHub and mkdocs make them from plain titles."""
    titles = (found["title"].lower() for found in _HEADING.finditer(_prose(page)))
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))
