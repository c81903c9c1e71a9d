"""The user's source as one body: named files, addressed by their content; never pickled.

The digest is a SHA-256 over the files in order of their paths: of each the length of its path as 4
bytes (little-endian), the path in UTF-8, the length of its content as 8 bytes, the content. The
body is a zstd frame of the length of a header as 4 bytes, the header (JSON: the list of paths and
sizes, in order), and the contents one after another. Everything is bounded before it is unpacked,
and a path cannot lead out of the folder that it is unpacked into.
"""

import hashlib
import json
import re
import struct
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import zstandard
from pydantic import Field

from omega21.language import _
from omega21.protocol.errors import InvalidCode, InvalidShard
from omega21.protocol.messages import Reply, Request
from omega21.protocol.names import Sha256
from omega21.protocol.printable import printable
from omega21.protocol.shards import decompress
from omega21.protocol.tasks.task import ENTRY_PATTERN

MAX_CODE_BYTES: Final = 64 * 2**20
"""Maximum size of all files of a source, in bytes."""

MAX_CODE_FILES: Final = 1000
MAX_PATH: Final = 200
CODE_MEDIA_TYPE: Final = "application/vnd.omega21.code"
OWN_NAMES: Final = frozenset({"omega21", "torch", "numpy"})
"""Modules of the server that no file of a source may replace."""

_MAX_HEADER: Final = 512 * 1024
_PREAMBLE: Final = b"omega21 code 1\0"
_PART: Final = re.compile(r"[^\x00-\x1f\x7f<>:\"/\\|?*]{1,100}")
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_COMPILED: Final = (".pyc", ".pyo", ".pth")

Files = Mapping[str, bytes]
"""The files of a source by their path, with `/` between its parts."""


class Offer(Reply):
    """Source that the server itself was started with (`serve --model`)."""

    entry: str = Field(pattern=ENTRY_PATTERN)
    sha256: Sha256


class CodeReply(Reply):
    """The user's source on this server: what is allowed, and what it offers."""

    allowed: list[str] = Field(description="`any`, or digests as `sha256:…`; empty for none")
    install: bool = Field(description="whether requirements of a source are installed")
    offers: list[Offer]


class MissingCodeRequest(Request):
    """Asks which of these sources the server lacks."""

    code: list[Sha256] = Field(max_length=100)


class MissingCodeReply(Reply):
    """The sources that the server lacks, in the order asked."""

    missing: list[Sha256]


class CodeStored(Reply):
    """The server has the source, on disk."""

    sha256: Sha256
    files: int
    bytes: int
    stored: bool = Field(description="false when it was there before")


def code_sha256(files: Files) -> str:
    """Return the digest of a source."""
    digest = hashlib.sha256(_PREAMBLE)
    for name, content in _ordered(files):
        path = name.encode()
        digest.update(struct.pack("<I", len(path)) + path + struct.pack("<Q", len(content)))
        digest.update(content)
    return digest.hexdigest()


def requirements_sha256(requirements: Iterable[str]) -> str:
    """Return the name of the folder that requirements are installed into, for this Python."""
    version = f"{sys.implementation.cache_tag} {sys.platform}"
    return hashlib.sha256("\n".join([version, *sorted(requirements)]).encode()).hexdigest()


def encode_code(files: Files) -> bytes:
    """Return the body of a source, equal for equal files. Raises InvalidCode."""
    check_files({name: len(content) for name, content in files.items()})
    ordered = list(_ordered(files))
    head = json.dumps(
        [[name, len(content)] for name, content in ordered], separators=(",", ":")
    ).encode()
    whole = b"".join([struct.pack("<I", len(head)), head, *(content for _name, content in ordered)])
    return zstandard.ZstdCompressor(level=9).compress(whole)


def decode_code(body: bytes, sha256: str) -> dict[str, bytes]:
    """Return the files of a body, checked. Raises InvalidCode, BodyTooLarge."""
    whole = _decompressed(body)
    sizes, start = _read_head(whole)
    check_files(dict(sizes))
    if start + sum(size for _name, size in sizes) != len(whole):
        raise InvalidCode(_("the source is truncated, or longer than its list of files says"))
    files = {}
    for name, size in sizes:
        files[name] = whole[start : start + size]
        start += size
    if (actual := code_sha256(files)) != sha256:
        raise InvalidCode(
            _("the content's digest is {actual}, the source was named {sha256}").format(
                actual=actual, sha256=sha256
            ),
            hint=_("it was damaged in transit, or has a wrong name; send it again"),
        )
    return files


def check_files(sizes: Mapping[str, int]) -> None:
    """Check paths and sizes of a source's files. Raises InvalidCode, which names the file."""
    if not 0 < len(sizes) <= MAX_CODE_FILES:
        raise InvalidCode(
            _("a source has 1 to {most} files, this one {count}").format(
                most=MAX_CODE_FILES, count=len(sizes)
            )
        )
    if (total := sum(sizes.values())) > MAX_CODE_BYTES:
        raise InvalidCode(
            _("the source has {total} bytes, the limit is {most}").format(
                total=total, most=MAX_CODE_BYTES
            )
        )
    folders: set[str] = set()
    names: set[str] = set()
    for name in sizes:
        if reason := _why_not(name):
            raise _refused(name, reason)
        key = _key(name)
        if key in names:
            raise _refused(name, _("another path differs from it in case only"))
        names.add(key)
        parts = key.split("/")
        folders |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    if both := names & folders:
        raise _refused(min(both), _("it is a file and a folder"))


def shadowed_module(name: str) -> str | None:
    """Return the module of Python or of the server that a file would replace, if any."""
    top = name.split("/", maxsplit=1)[0]
    module = top.removesuffix(".py")
    is_code = name.endswith(".py")
    taken = module in sys.stdlib_module_names or module in OWN_NAMES
    return module if is_code and (taken or module.startswith("omega21_code_")) else None


def _why_not(name: str) -> str | None:
    """Return why a path may not be in a source, if it may not."""
    parts = name.split("/")
    if len(name.encode("utf-8", "surrogatepass")) > MAX_PATH:
        return _("it has more than {most} bytes").format(most=MAX_PATH)
    if name.startswith("/") or ".." in parts:
        return _("it leads out of the source's folder")
    if not _is_portable(name):
        return _("it is not a path on every system")
    if "__pycache__" in parts or name.lower().endswith(_COMPILED):
        return _("it is not source")
    if (module := shadowed_module(name)) is not None:
        return _("it would replace the module {module}; rename it").format(module=module)
    return None


def _refused(name: str, reason: str) -> InvalidCode:
    return InvalidCode(
        _("{name} cannot be in a source: {reason}").format(
            name=printable(name, most=MAX_PATH), reason=reason
        )
    )


def _is_portable(name: str) -> bool:
    """Whether a path means the same file on Linux, macOS and Windows."""
    is_text = not any("\ud800" <= letter <= "\udfff" for letter in name)
    return (
        is_text
        and unicodedata.normalize("NFC", name) == name
        and all(
            _PART.fullmatch(part)
            and not _DEVICE.fullmatch(part)
            and part == part.strip(" ")
            and not part.endswith(".")
            for part in name.split("/")
        )
    )


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _ordered(files: Files) -> Iterator[tuple[str, bytes]]:
    return iter(sorted(files.items(), key=lambda item: item[0].encode("utf-8", "surrogatepass")))


def _decompressed(body: bytes) -> bytes:
    try:
        return decompress(body, max_bytes=MAX_CODE_BYTES + _MAX_HEADER + 4)
    except InvalidShard as error:
        raise InvalidCode(
            _("the source is truncated or damaged: {reason}").format(reason=error.message)
        ) from error


def _read_head(whole: bytes) -> tuple[list[tuple[str, int]], int]:
    """Return the list of files and where the first one begins. Raises InvalidCode."""
    length = struct.unpack_from("<I", whole)[0] if len(whole) >= 4 else _MAX_HEADER + 1
    if length > _MAX_HEADER or 4 + length > len(whole):
        raise InvalidCode(_("the source's list of files is truncated or too long"))
    try:
        listed = json.loads(whole[4 : 4 + length])
    except (ValueError, RecursionError) as error:
        raise InvalidCode(_("the source's list of files is not JSON")) from error
    is_list = isinstance(listed, list) and all(
        isinstance(one, list)
        and len(one) == 2
        and isinstance(one[0], str)
        and type(one[1]) is int
        and one[1] >= 0
        for one in listed
    )
    if not is_list or len({name for name, _size in listed}) != len(listed):
        raise InvalidCode(_("the source's list of files has no paths and sizes, or one twice"))
    return [(name, size) for name, size in listed], 4 + length
