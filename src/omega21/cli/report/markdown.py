"""A report as Markdown, with its charts as PNG files beside it."""

import os
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from omega21.cli.report import charts
from omega21.cli.report.blocks import Block, Charts, Commands, KeyValues, Report, Table, Text
from omega21.protocol.printable import printable


def write_markdown(report: Report, stem: str) -> tuple[str, dict[str, bytes]]:
    """Return the text, and its images by file name, `STEM-CHART.png`."""
    images: dict[str, bytes] = {}
    parts = [f"# {_plain(report.title)}", _plain(report.subtitle)]
    parts.append(_rows(*zip(*report.highlights, strict=True)))
    for section in report.sections:
        parts.append(f"## {_plain(section.title)}")
        for block in section.blocks:
            parts += _block(block, stem, images)
    parts.append(_plain(report.footer))
    return "\n\n".join(parts) + "\n", images


def _block(block: Block, stem: str, images: dict[str, bytes]) -> Iterator[str]:
    match block:
        case KeyValues(rows):
            yield _rows(("", ""), *rows)
        case Table(titles, rows):
            yield _rows(titles, *rows)
        case Text(text):
            yield _plain(text)
        case Commands(lines):
            yield "\n".join(f"    {printable(line)}" for line in lines)
        case Charts(drawn):
            for chart in drawn:
                name = f"{stem}-{chart.name}.png"
                images[name] = charts.png(chart)
                yield f"![{_plain(chart.caption)}]({quote(os.fsencode(name))})"


def _rows(titles: Sequence[str], *rows: Sequence[str]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    cells = (map(_plain, line) if place != 1 else line for place, line in enumerate(lines))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _plain(text: str) -> str:
    """Remove markup of Markdown and HTML from a text."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~$])", r"\\\1", printable(" ".join(text.split())))
