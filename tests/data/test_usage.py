"""The month's count: nothing lost between programs, nothing counted twice, months apart."""

import calendar
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from omega21.data.usage import Counted, TrafficLedger

ADD = """
import sqlite3, sys
from pathlib import Path
from omega21.data.usage import Counted, TrafficLedger
ledger = TrafficLedger(Path(sys.argv[1]))
added = 0
while added < 50:
    try:
        ledger.add("server", Counted(1, 10, 100))
        added += 1
    except sqlite3.OperationalError:
        continue  # others write: what could not be added is added again, as both sides do
"""


def at(text: str) -> float:
    year, month, day = map(int, text.split("-"))
    return calendar.timegm((year, month, day, 23, 59, 59, 0, 0, 0))


def test_counts_add_up_under_each_name(tmp_path: Path) -> None:
    ledger = TrafficLedger(tmp_path / "new" / "traffic.sqlite")
    assert ledger.read("a") == Counted()
    ledger.add("a", Counted(1, 2, 3))
    ledger.add("b", Counted(7, 0, 0))
    ledger.add("a", Counted(10, 20, 30))
    assert ledger.read("a") == Counted(11, 22, 33)
    assert ledger.read("b") == Counted(7, 0, 0)
    assert ledger.read("*") == Counted()


def test_a_new_month_begins_at_zero_in_utc(tmp_path: Path) -> None:
    now = at("2025-01-31")
    ledger = TrafficLedger(tmp_path / "traffic.sqlite", clock=lambda: now)
    ledger.add("a", Counted(1, 2, 3))
    assert ledger.month() == "2025-01"
    assert ledger.read("a") == Counted(1, 2, 3)
    now += 1
    assert ledger.month() == "2025-02"
    assert ledger.read("a") == Counted()
    ledger.add("a", Counted(5, 0, 0))
    now -= 1
    assert ledger.read("a") == Counted(1, 2, 3)


def test_programs_that_count_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sqlite"
    programs = [subprocess.Popen([sys.executable, "-c", ADD, str(path)]) for _ in range(3)]
    assert [program.wait() for program in programs] == [0, 0, 0]
    assert TrafficLedger(path).read("server") == Counted(150, 1500, 15000)


def test_what_cannot_be_written_is_said_and_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sqlite"
    path.write_text("this is not a database, and it is longer than a header of SQLite would be" * 9)
    with pytest.raises(sqlite3.DatabaseError):
        TrafficLedger(path).add("a", Counted(1, 1, 1))
