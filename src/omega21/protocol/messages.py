"""Base classes of the messages on the wire.

Requests are strict, so that a misspelt field is an error. Replies, and documents that another
version wrote to disk, are lenient, so that an older client can talk to a newer server. The seven
older calls have lenient requests too: their clients send fields that this server does not know.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """A message that a client sends: frozen, unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reply(BaseModel):
    """A message that a server sends or a program has stored: frozen, unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class LegacyRequest(BaseModel):
    """A request of the seven older calls: frozen, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Document(Request):
    """A message that is sent, stored and replied alike, and named by its content.

    Written strictly; `parse_lenient` reads one that a newer version wrote.
    """

    @classmethod
    def parse_lenient(cls, text: str | bytes) -> Self:
        """Read a stored document, ignoring fields this version does not know."""
        return cls.model_validate_json(text, extra="ignore")
