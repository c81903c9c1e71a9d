"""The figures as tables in a page of the documentation, one a part, between markers of its own."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write(page: Path, reports: Iterable[Path]) -> None:
    """Replace the tables of the reports that are there; the rest of the page stays as it is."""
    text = page.read_text(encoding="utf-8")
    for path in reports:
        if path.exists():
            report = json.loads(path.read_text(encoding="utf-8"))
            text = _replace(text, path.stem, table(report))
    page.write_text(text, encoding="utf-8")


def _replace(text: str, part: str, table: str) -> str:
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    if begin not in text or end not in text:
        raise ValueError(f"the page has no place for {part}: {begin} … {end}")
    block = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return block.sub(lambda _: f"{begin}\n{table}\n{end}", text, count=1)


def table(report: Mapping[str, Any]) -> str:
    """Write a report's bars as a table, and what they were taken on."""
    machine = report["machine"]
    versions = machine["versions"]
    lines = ["| figure | value | bar | rounds | |", "|---|---|---|---|---|"]
    for bar in report["bars"]:
        rounds = bar["rounds"]
        spread = f"{min(rounds):.4g} to {max(rounds):.4g}" if len(rounds) > 1 else ""
        sign = "at most" if bar["most"] else "at least"
        met = "" if bar["met"] else "missed"
        lines.append(
            f"| {bar['name']} | {_number(bar['value'])} | {sign} {_number(bar['bar'])} "
            f"| {spread} | {met} |"
        )
    device = f"{report['device']}, " if "device" in report else ""
    where = (
        f"{device}{machine['cores']} cores of {machine['processor']}, Python {machine['python']}, "
        f"torch {versions['torch']}, omega21 {versions['omega21']}; "
        f"load at the end {machine['load']:.1f}."
    )
    return "\n".join(["", *lines, "", where, ""])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
