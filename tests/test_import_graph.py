"""The imports between our modules, those for type checking included: no circle, no crowded folder.

The contracts in pyproject.toml say which layer may import which. They do not see a circle inside a
layer, and an import under TYPE_CHECKING hides one from Python without opening it.
"""

import ast
from collections import Counter
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
MOST_MODULES = 20


def modules_of(source: Path) -> dict[str, Path]:
    """Every module of a source folder, by its dotted name."""
    found = {}
    for path in source.rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def import_graph(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Which of the modules each one imports, anywhere in its text."""
    return {
        name: {
            imported
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for imported in _imported(node, modules)
            if imported != name
        }
        for name, path in modules.items()
    }


def _imported(node: ast.AST, modules: Mapping[str, Path]) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names if alias.name in modules]
        case ast.ImportFrom(module=str(module), names=names):
            wanted = (f"{module}.{alias.name}" for alias in names)
            named = [name if name in modules else module for name in wanted]
            return [name for name in named if name in modules]
    return []


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of imports, if there is any."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_no_module_imports_itself_in_the_end() -> None:
    graph = import_graph(modules_of(SOURCE))

    assert len(graph) > 100
    assert circle_in(graph) == []


def test_no_folder_holds_more_modules_than_a_reader_can_survey() -> None:
    folders = Counter(path.parent for path in SOURCE.rglob("*.py") if path.name != "__init__.py")

    assert {str(f): n for f, n in folders.items() if n > MOST_MODULES} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "import pack.b",
        "from pack import b",
        "from pack.b import thing",
        "def late():\n    from pack.b import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.b import thing",
    ],
)
def test_a_circle_is_seen_however_it_is_written(tmp_path: Path, statement: str) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text(statement, encoding="utf-8")
    (package / "b.py").write_text("import pack.a\nthing = 1\n", encoding="utf-8")

    assert sorted(set(circle_in(import_graph(modules_of(tmp_path))))) == ["pack.a", "pack.b"]
