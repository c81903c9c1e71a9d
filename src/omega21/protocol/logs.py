"""The newest lines of a server's log."""

from typing import Final

from pydantic import Field

from omega21.protocol.messages import Reply

MAX_LOG_LINES: Final = 10_000
"""Maximum number of lines in one reply."""

MAX_LOG_BYTES: Final = 2_000_000
"""Maximum size of the lines in one reply, in bytes, before compression."""


class LogLines(Reply):
    """Lines of the log, oldest first; each is a JSON object (docs/logs.md)."""

    lines: list[str] = Field(description="without tokens, cookies or passwords")
