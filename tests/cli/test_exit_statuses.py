"""Each error has a status of its own, and the page lists it."""

import re
from pathlib import Path

from omega21.protocol.errors import error_classes

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_statuses_are_unique_fit_a_shell_and_are_documented() -> None:
    statuses = [(cls.exit_code, cls.code) for cls in error_classes()]
    listed = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert len({status for status, _ in statuses}) == len(statuses)
    assert all(1 <= status <= 125 for status, _ in statuses)  # 126 and above are the shell's own
    assert sorted(statuses) == [(int(status), code) for status, code in listed]
