"""A source ready to be sent: its files, with sizes, and its digest."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import pathspec

from omega21.data.code.header import check_requirements, read_requirements
from omega21.data.code.imports import LocalModules, has_name, parse
from omega21.data.failures import storage_failure
from omega21.language import _
from omega21.language.figures import size as size_text
from omega21.protocol.errors import InvalidCode
from omega21.protocol.printable import printable
from omega21.protocol.tasks.code import Files, check_files, code_sha256, decode_code, encode_code
from omega21.protocol.tasks.task import ENTRY_PATTERN

CODE_LIMIT: Final = 2 * 2**20
"""Maximum size of a source in bytes, unless another one is asked for."""

_LISTED: Final = 20
_MODEL: Final = re.compile(r"(?P<module>.+):(?P<function>[A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True)
class CodeBundle:
    """The source of a task: the entry, the files by path, and the requirements of its header."""

    entry: str
    files: Files
    requirements: tuple[str, ...] = ()

    @classmethod
    def of_body(cls, body: bytes, *, entry: str, sha256: str) -> Self:
        """Read a bundle from its body. Raises InvalidCode."""
        files = decode_code(body, sha256)
        return cls(entry, files, _requirements(files, entry))

    @cached_property
    def sha256(self) -> str:
        """The digest that names it."""
        return code_sha256(self.files)

    @cached_property
    def body(self) -> bytes:
        """The body that is sent and stored."""
        return encode_code(self.files)

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(len(content) for content in self.files.values())

    def file_sizes(self) -> list[tuple[str, int]]:
        """Return each file's path and size, by path."""
        return [(name, len(self.files[name])) for name in sorted(self.files)]


def prepare_code(
    model: str,
    *,
    include: Sequence[str] = (),
    limit: int | None = None,
    folder: Path | None = None,
) -> CodeBundle:
    """Find the source of `net.py:build` or `package.module:build`; nothing is imported.

    The file's own folder is the root; of a module name, `folder` (the current one). The local
    modules that it imports belong to it, and the files that an `include` pattern matches in the
    root; what a `.gitignore` names does not, unless it is imported. Raises InvalidCode for a file
    or a function that is not there, a syntax error, a link, a name that the server needs, or more
    than `limit` bytes (2 MB).
    """
    given = _MODEL.fullmatch(model)
    if given is None:
        raise InvalidCode(
            _("{model!r} names no function").format(model=printable(model, most=200)),
            hint=_("write it as FILE.py:FUNCTION, such as net.py:build"),
        )
    file, root = _entry_path(given["module"], folder or Path.cwd())
    name = file.relative_to(root).as_posix()
    entry = f"{_module_name(name)}:{given['function']}"
    if not re.fullmatch(ENTRY_PATTERN, entry):
        raise InvalidCode(
            _("{name} cannot be imported: it is no module name").format(
                name=printable(name, most=200)
            ),
            hint=_("rename it with letters, digits and underscores"),
        )
    try:
        modules = LocalModules(root)
        for package in modules.files_of(entry.partition(":")[0].split("."), []):
            modules.add(package)
        if not has_name(parse(file, name), given["function"]):
            raise InvalidCode(
                _("{file} has no function {name!r}").format(file=name, name=given["function"]),
                hint=_("define it, as {example}, or name another one with --model").format(
                    example=f"def {given['function']}(schema): return Net()"
                ),
            )
        found = {**modules.found, **_included(root, include)}
        return _read(entry, found, limit=CODE_LIMIT if limit is None else limit, root=root)
    except OSError as error:
        raise storage_failure(error, error.filename or root) from error


def _entry_path(module: str, folder: Path) -> tuple[Path, Path]:
    """Return the entry's file and the root of its source."""
    path = folder / Path(module).expanduser()
    if module.endswith(".py"):
        if path.is_file():
            file = Path(os.path.abspath(path))  # noqa: PTH100 - a link is told as one below
            return file, file.parent
    elif re.fullmatch(r"[\w.]+", module):
        place = Path(os.path.abspath(folder)).joinpath(*module.split("."))  # noqa: PTH100
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                return file, Path(os.path.abspath(folder))  # noqa: PTH100
    raise InvalidCode(
        _("there is no file {path}").format(path=printable(str(path), most=300)),
        hint=_("name it from this folder, as FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"),
    )


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _requirements(files: Files, entry: str) -> tuple[str, ...]:
    """Return the requirements in the header of the entry's file."""
    place = entry.partition(":")[0].replace(".", "/")
    for name in (f"{place}/__init__.py", f"{place}.py"):
        if name in files:
            return check_requirements(
                read_requirements(files[name].decode("utf-8", "replace"), name)
            )
    raise InvalidCode(_("the source has no file for {entry}").format(entry=entry))


def _included(root: Path, patterns: Sequence[str]) -> dict[str, Path]:
    """Return the files that patterns match and no .gitignore names. Raises InvalidCode."""
    files = dict(_unignored(root)) if patterns else {}
    found: dict[str, Path] = {}
    for pattern in patterns:
        wanted = pathspec.GitIgnoreSpec.from_lines([f"/{pattern.lstrip('/')}"])
        matching = {name: path for name, path in files.items() if wanted.match_file(name)}
        if not matching:
            raise InvalidCode(
                _("--include {pattern}: no file in {folder} matches").format(
                    pattern=printable(pattern, most=200), folder=root
                ),
                hint=_("it is relative to the folder of --model; a .gitignore excludes files"),
            )
        found |= matching
    return found


def _unignored(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files below the root that no .gitignore names; no hidden folder, no link."""
    rules: list[tuple[str, pathspec.GitIgnoreSpec]] = []
    for folder, folders, files in os.walk(root):
        place = Path(folder).relative_to(root).as_posix()
        prefix = "" if place == "." else f"{place}/"
        if ".gitignore" in files:
            text = (Path(folder) / ".gitignore").read_text(encoding="utf-8", errors="replace")
            rules.append((prefix, pathspec.GitIgnoreSpec.from_lines(text.splitlines())))

        def ignored(name: str) -> bool:
            return any(
                name.startswith(start) and spec.match_file(name[len(start) :])
                for start, spec in rules
            )

        folders[:] = [
            one
            for one in sorted(folders)
            if not one.startswith(".") and one != "__pycache__" and not ignored(f"{prefix}{one}/")
        ]
        for one in sorted(files):
            if one != ".gitignore" and not ignored(prefix + one):
                yield prefix + one, Path(folder) / one


def _read(entry: str, found: dict[str, Path], *, limit: int, root: Path) -> CodeBundle:
    for name, path in found.items():
        steps = [path, *path.parents]
        link = next((one for one in steps[: steps.index(root)] if one.is_symlink()), None)
        if link is not None:
            raise InvalidCode(
                _("{name} is a link, and a source has none").format(name=printable(name, most=200)),
                hint=_("copy its target there"),
            )
    sizes = {name: path.stat().st_size for name, path in found.items()}
    _check_size(sizes, limit)
    check_files(sizes)
    files = {name: path.read_bytes() for name, path in found.items()}
    return CodeBundle(entry, files, _requirements(files, entry))


def _check_size(sizes: dict[str, int], limit: int) -> None:
    total = sum(sizes.values())
    if total <= limit:
        return
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_LISTED]
    listed = ", ".join(f"{printable(name, most=80)} {size_text(sizes[name])}" for name in largest)
    more = len(sizes) - len(largest)
    raise InvalidCode(
        _("the source has {total}, the limit is {limit}: {files}").format(
            total=size_text(total), limit=size_text(limit), files=listed
        )
        + (_(" (and {count} more)").format(count=more) if more else ""),
        hint=_("leave files out, or raise it with --code-limit {size}").format(
            size=f"{-(-total // 2**20)}MB"
        ),
    )
