"""The two bases of every message on the wire, and the one way to read a stored or received one.

A request is read strictly, so that a misspelt field is an error and not a silence. A reply, and
whatever another version wrote to disk, is read leniently, so that an older client can talk to a
newer server. The seven older calls read their requests leniently too: their clients send fields
that this server does not know.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """A message a client sends: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reply(BaseModel):
    """A message a server sends or a program stored: frozen, unknown fields ignored."""

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
