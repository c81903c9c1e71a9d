"""The local modules that a Python file imports, read from its syntax tree.

Every import counts, also a conditional one, one inside a function and one for type checkers: which
of them is executed is known only where it runs. A module is local if its file is in the root or
below it; anything else is the server's to have.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omega21.language import _
from omega21.protocol.errors import InvalidCode
from omega21.protocol.printable import printable


@dataclass
class LocalModules:
    """Finds the files of `root` that a file needs, and those that these need."""

    root: Path
    found: dict[str, Path] = field(default_factory=dict)
    """Files by their path in the root, with `/`."""

    def add(self, path: Path) -> None:
        """Add a file of the root, and all that it imports. Raises InvalidCode, OSError."""
        waiting = [path]
        while waiting:
            file = waiting.pop()
            name = file.relative_to(self.root).as_posix()
            if name in self.found:
                continue
            self.found[name] = file
            tree = parse(file, name)
            package = list(file.relative_to(self.root).parent.parts)
            for module, attributes in _imports(tree, package):
                waiting += self.files_of(module, attributes)

    def files_of(self, module: list[str], attributes: list[str]) -> Iterator[Path]:
        """Yield the files of a module, of the packages around it, and of its own submodules."""
        for depth in range(1, len(module) + 1):
            yield from self._file(module[:depth])
        for attribute in attributes:
            if attribute == "*":
                continue
            yield from self._file([*module, attribute])

    def _file(self, module: list[str]) -> Iterator[Path]:
        place = self.root.joinpath(*module)
        package = place / "__init__.py"
        if package.is_file():
            yield package
        elif module and place.with_suffix(".py").is_file():
            yield place.with_suffix(".py")


def parse(file: Path, name: str) -> ast.Module:
    """Return the syntax tree of a file. Raises InvalidCode, naming file and line."""
    try:
        return ast.parse(file.read_bytes(), filename=name)
    except SyntaxError as error:
        raise InvalidCode(
            _("{file}:{line}: syntax error: {reason}").format(
                file=printable(name, most=200), line=error.lineno or 1, reason=error.msg
            ),
            hint=_("correct it; nothing was sent"),
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidCode(
            _("{file}:1: this is not Python source: {reason}").format(
                file=printable(name, most=200), reason=str(error) or type(error).__name__
            ),
            hint=_("correct it; nothing was sent"),
        ) from error


def has_name(tree: ast.Module, name: str) -> bool:
    """Whether a module defines or imports a name at its top level, as far as its syntax says."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if node.name == name:
                    return True
            case ast.Name(ctx=ast.Store()):
                if node.id == name:
                    return True
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    if name == (alias.asname or alias.name) or alias.name == "*":
                        return True
    return False


def _imports(tree: ast.Module, package: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield each imported module, and the names taken from it, which may be modules too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split("."), []
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                kept = len(package) - (node.level - 1)
                if kept < 0:
                    continue  # above the root: it fails where it runs, with its line
                base = [*package[:kept], *base]
            yield base, [alias.name for alias in node.names]
