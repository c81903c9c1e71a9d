"""What runs print: bounded, the newest lines of each run.

A run has two files: lines go to the first until it is full, which then replaces the second. A model
that prints faster than a person reads is cut, and the cut is told.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omega21.data.durable import open_private
from omega21.protocol.logs import RunLogLine
from omega21.protocol.printable import printable

MOST_BYTES: Final = 512 * 1024
"""Maximum size of each of a run's two files."""

MOST_LINE: Final = 2000
LINES_AT_ONCE: Final = 2000
LINES_A_SECOND: Final = 100


@dataclass
class _Writing:
    number: int
    allowance: float
    at: float
    left_out: int = 0


class RunLogs:
    """The logs of an engine's runs, in a folder. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._writing: dict[str, _Writing] = {}

    def append(self, run_id: str, lines: bytes) -> None:
        """Add lines of output, with the time of now. What cannot be written is left out."""
        with self._guard:
            now = time.time()
            writing = self._writing.get(run_id) or self._open(run_id, now)
            passed = max(0.0, now - writing.at) * LINES_A_SECOND
            writing.allowance = min(LINES_AT_ONCE, writing.allowance + passed)
            writing.at = now
            # A line has a byte at least: what is beyond the allowance is counted, not decoded.
            kept = lines.split(b"\n", int(writing.allowance))
            beyond = kept.pop() if len(kept) > int(writing.allowance) else None
            texts = [line[:MOST_LINE].decode("utf-8", "replace") for line in kept]
            if writing.left_out and texts:
                texts.insert(0, f"… {writing.left_out} lines left out")
                writing.left_out = 0
            if beyond is not None:
                writing.left_out += beyond.count(b"\n") + 1
            writing.allowance -= len(kept)
            self._write(run_id, writing, texts)

    def read(self, run_id: str, *, after: int, limit: int) -> list[RunLogLine]:
        """Return up to `limit` lines after a number; with `after` -1, the newest ones."""
        with self._guard:
            lines = [line for line in self._lines(run_id) if line.number > after]
        return lines[-limit:] if after < 0 else lines[:limit]

    def remove(self, run_id: str) -> None:
        """Remove the log of a run."""
        with self._guard:
            self._writing.pop(run_id, None)
            for path in self._paths(run_id):
                path.unlink(missing_ok=True)

    def _open(self, run_id: str, now: float) -> _Writing:
        self._folder.mkdir(parents=True, exist_ok=True)
        last = max((line.number for line in self._lines(run_id)), default=0)
        self._writing[run_id] = writing = _Writing(last, float(LINES_AT_ONCE), now)
        return writing

    def _write(self, run_id: str, writing: _Writing, texts: list[str]) -> None:
        older, newer = self._paths(run_id)
        if newer.exists() and newer.stat().st_size > MOST_BYTES:
            newer.replace(older)
        with open_private(newer, "ab") as file:
            for text in texts:
                writing.number += 1
                line = f"{writing.number}\t{writing.at:.3f}\t{printable(text)}\n"
                file.write(line.encode())

    def _lines(self, run_id: str) -> Iterator[RunLogLine]:
        for path in self._paths(run_id):
            if not path.exists():
                continue
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                number, at, text = [*line.split("\t", 2), "", ""][:3]
                if number.isdecimal():  # the last line of a process that was killed may be cut
                    yield RunLogLine(number=int(number), at=float(at or 0), text=text)

    def _paths(self, run_id: str) -> tuple[Path, Path]:
        return self._folder / f"{run_id}.1.log", self._folder / f"{run_id}.log"
