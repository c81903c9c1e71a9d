"""The requirements of a source: the PEP 723 header of its entry's file, and those given."""

import re
import tomllib
from collections.abc import Iterable
from typing import Final

from omega21.language import _
from omega21.protocol.errors import InvalidCode
from omega21.protocol.printable import printable

_HEADER: Final = re.compile(
    r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
)
"""The pattern of PEP 723."""

_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\s*\[[^\]]*\])?\s*([<>=!~;@(].*)?")
_LONGEST: Final = 300
_MOST: Final = 64


def read_requirements(text: str, name: str) -> tuple[str, ...]:
    """Return the dependencies of a file's PEP 723 header. Raises InvalidCode, naming the file."""
    blocks = [one for one in _HEADER.finditer(text) if one["type"] == "script"]
    if not blocks:
        return ()
    lines = blocks[0]["content"].splitlines(keepends=True)
    content = "".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)
    line = text[: blocks[0].start()].count("\n") + 1
    try:
        found = tomllib.loads(content).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        raise _refused(name, line, str(error)) from error
    if len(blocks) > 1:
        raise _refused(name, line, _("there are two of them"))
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise _refused(name, line, _("dependencies is not a list of texts"))
    return check_requirements(found)


def check_requirements(given: Iterable[str]) -> tuple[str, ...]:
    """Return requirements, sorted and each once. Raises InvalidCode for what is none."""
    found = sorted({" ".join(one.split()) for one in given})
    for one in found:
        # An option of pip's, a path or a file is none; neither is a line of several.
        if not _REQUIREMENT.fullmatch(one) or len(one) > _LONGEST:
            raise InvalidCode(
                _("{text!r} is not a requirement").format(text=printable(one, most=80)),
                hint=_("write it as NAME, or as NAME>=VERSION (PEP 508)"),
            )
    if len(found) > _MOST:
        raise InvalidCode(
            _("a source has at most {most} requirements, this one {count}").format(
                most=_MOST, count=len(found)
            )
        )
    return tuple(found)


def _refused(name: str, line: int, reason: str) -> InvalidCode:
    return InvalidCode(
        _("{file}:{line}: the PEP 723 header cannot be read: {reason}").format(
            file=printable(name, most=200), line=line, reason=printable(reason, most=200)
        ),
        hint=_("correct it; nothing was sent"),
    )
