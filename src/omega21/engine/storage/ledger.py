"""The server's database of runs, one SQLite file with a table class for each noun."""

from pathlib import Path
from typing import Final

from omega21.engine.storage.database import Database
from omega21.engine.storage.environments import EnvironmentTable
from omega21.engine.storage.inline import InlineTable
from omega21.engine.storage.journal import EvaluationTable, EventTable, FeedbackTable
from omega21.engine.storage.runs import RunTable
from omega21.engine.storage.segments import SegmentTable
from omega21.engine.storage.steps import StepTable

LEDGER: Final = "ledger.sqlite"
"""The file's name in the data folder."""


class Ledger:
    """The tables of one file. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises RunFolderConflict for one of another kind or format."""
        self._database = database = Database(path)
        self.runs = RunTable(database)
        self.segments = SegmentTable(database)
        self.steps = StepTable(database)
        self.environments = EnvironmentTable(database)
        self.inline = InlineTable(database)
        self.feedback = FeedbackTable(database)
        self.evaluations = EvaluationTable(database)
        self.events = EventTable(database)

    def close(self) -> None:
        """Close the file; no thread may be using it."""
        self._database.close()
