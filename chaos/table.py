"""What was done and what came of it, as a table."""

import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from chaos.scenarios import Played

HEAD = ("fault", "times", "lost", "repeated", "digest equal", "totals equal")
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"


class Line(NamedTuple):
    """One kind of fault; lost and repeated are those of the runs that met it."""

    fault: str
    times: str
    lost: str
    repeated: str
    digest_equal: str
    totals_equal: str


def lines(played: Sequence[Played]) -> list[Line]:
    """Return a line a fault, in the order of the scenarios, and their sum."""
    table = [line for one in played for line in _lines_of(one)]
    times = sum(one.faults.total() for one in played)
    verdicts = [verdict for one in played for verdict in one.verdicts]
    lost, repeated = sum(v.lost for v in verdicts), sum(v.repeated for v in verdicts)
    whole = all(one.broke is None for one in played)
    digests = _all(v.digests_equal and whole for v in verdicts)
    totals = _all(v.totals_equal and whole for v in verdicts)
    return [*table, Line("all", str(times), str(lost), str(repeated), digests, totals)]


def _lines_of(one: Played) -> list[Line]:
    if one.skipped is not None:
        return [Line(f"{one.scenario.name}: NOT DONE, {one.skipped}", "0", "-", "-", "-", "-")]
    if one.broke is not None:
        done = str(one.faults.total())
        return [Line(f"{one.scenario.name}: BROKE", done, "?", "?", "NO", "NO")]
    lost, repeated = sum(v.lost for v in one.verdicts), sum(v.repeated for v in one.verdicts)
    digests = _all(v.digests_equal for v in one.verdicts)
    totals = _all(v.totals_equal for v in one.verdicts)
    return [
        Line(_titled(one, fault), str(times), str(lost), str(repeated), digests, totals)
        for fault, times in sorted(one.faults.items())
    ]


def _titled(one: Played, fault: str) -> str:
    is_inline = one.scenario.name == "link-inline"
    in_storm = one.scenario.name == "storm" and not fault.startswith("all at once")
    return f"inline batches: {fault}" if is_inline else f"all at once: {fault}" * in_storm or fault


def _all(equal: Iterable[bool]) -> str:
    return "yes" if all(equal) else "NO"


def as_text(table: Sequence[Line]) -> str:
    """Write the table for a terminal."""
    rows = [HEAD, *table]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in {0, 4, 5} else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def write(page: Path, table: Sequence[Line], *, runs: int, seed: int) -> None:
    """Put the table between the markers of a Markdown page. Raises ValueError without them."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no markers {BEGIN} and {END}")
    head = ["| " + " | ".join(HEAD) + " |", "| --- | ---: | ---: | ---: | --- | --- |"]
    rows = ["| " + " | ".join(line) + " |" for line in table]
    said = f"{runs} disturbed runs, seed {seed}, {platform.system()} {platform.machine()}, CPU."
    page.write_text("\n".join([before + BEGIN, *head, *rows, "", said, END + after]), "utf-8")
