"""The syntax of names: runs, ids, digests, keys.

A run's name is a folder's name on the user's machine, so it is lower case (file systems differ in
case), has no dots or separators, and is not a device name of Windows.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from omega21.language import _
from omega21.protocol.errors import InvalidRequest

RUN_NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
ID_PATTERN = r"^[0-9a-f]{32}$"

DEFAULT_RUN = "default"
"""The run that always exists, for clients that name none."""

_WINDOWS_DEVICES = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)$")


def check_run_name(name: str) -> str:
    """Return `name` if it is valid for a run. Raises ValueError, which says what is allowed."""
    if not re.fullmatch(RUN_NAME_PATTERN, name) or _WINDOWS_DEVICES.match(name):
        raise ValueError(
            _(
                "{name!r} is not a run name: use 1 to 63 of a-z, 0-9, - and _, beginning with a "
                "letter or digit"
            ).format(name=name)
        )
    return name


def checked_name(run: str) -> str:
    """Check a run's name that a user gave: it becomes part of paths. Raises InvalidRequest."""
    try:
        return check_run_name(run)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


RunName = Annotated[str, AfterValidator(check_run_name), Field(examples=["mi-ejecucion"])]
RunId = Annotated[
    str,
    Field(
        pattern=ID_PATTERN,
        description="drawn at random by the run's creator; every write names it",
        examples=["4f1c6e0a9b2d48d7a3e5f60718293a4b"],
    ),
]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
