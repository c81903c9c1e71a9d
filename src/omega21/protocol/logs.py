"""The newest lines of a server's log, and of what a run printed."""

from typing import Final

from pydantic import Field

from omega21.protocol.messages import Reply

MAX_LOG_LINES: Final = 10_000
"""Maximum number of lines in one reply."""

MAX_LOG_BYTES: Final = 2_000_000
"""Maximum size of the lines in one reply, in bytes, before compression."""


MAX_LOG_REPLY: Final = 4 * MAX_LOG_BYTES
"""Maximum size of a reply: quotes are escaped in it, and in lines that quote."""


class LogLines(Reply):
    """Lines of the log, oldest first; each is a JSON object (docs/logs.md)."""

    lines: list[str] = Field(description="without tokens, cookies or passwords")


class RunLogLine(Reply):
    """A line that a run's model, or a library of it, printed."""

    number: int = Field(description="from 1 on; a line that was left out has none")
    at: float = Field(description="seconds since 1970, by the server's clock")
    text: str


class RunLog(Reply):
    """Lines of a run's log after a cursor, ascending."""

    run: str
    lines: list[RunLogLine]
