"""Every message is there in both languages, and what is shipped is what the source says."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from babel.messages import Catalog

from omega21.cli.app import app
from omega21.cli.ui.help import help_texts
from omega21.protocol.errors import error_classes
from translations.catalogue import (
    TRANSLATED,
    as_po,
    compiled,
    faults,
    placeholders,
    po_path,
    read,
    template,
    updated,
)

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

pytestmark = pytest.mark.parametrize("language", TRANSLATED)


def test_every_message_is_translated(language: str) -> None:
    assert faults(updated(language)) == []


def test_the_catalogue_has_the_messages_of_the_source_and_no_others(language: str) -> None:
    stored = read(language)
    assert list(stored.obsolete) == []
    assert {message.id for message in stored} == {message.id for message in template()} | {""}


def test_the_files_are_those_that_make_messages_writes(language: str) -> None:
    path = po_path(language)
    assert path.read_bytes() == as_po(updated(language)), "run make messages"
    assert path.with_suffix(".mo").read_bytes() == compiled(read(language)), "run make messages"


def test_each_help_text_is_among_them(language: str) -> None:
    stored = {message.id for message in read(language)}
    texts = list(help_texts(typer.main.get_command(app)))
    assert len(texts) > 100
    assert set(texts) <= stored


def test_each_hint_is_among_them(language: str) -> None:
    stored = {message.id for message in read(language)}
    assert {cls.default_hint for cls in error_classes()} - {""} <= stored


def test_what_is_missing_or_wrong_is_found(language: str) -> None:
    catalogue = Catalog(locale=language)
    catalogue.add("a {size}", "un {size}")
    catalogue.add("not there")
    catalogue.add("a {size} b", "un {tamaño} b")
    catalogue.add("{size!r}", "{size}")
    catalogue.add("unsure", "no sé", flags=["fuzzy"])
    catalogue.add(("{n} step", "{n} steps"), ("{n} paso", ""))
    assert [fault.partition(":")[0] for fault in faults(catalogue)] == [
        "not translated",
        "other placeholders",
        "other placeholders",
        "not sure",
        "not translated",
    ]


def test_the_wheel_holds_the_compiled_catalogue(language: str, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    inside = po_path(language).with_suffix(".mo").relative_to(ROOT / "src").as_posix()
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(inside) == po_path(language).with_suffix(".mo").read_bytes()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node


def test_no_function_uses_the_name_for_something_else(language: str) -> None:
    """A throwaway `_` is local to the whole function, and hides the one that looks messages up."""
    del language
    hidden = [
        f"{path.relative_to(ROOT)}:{function.lineno}"
        for path in SOURCES
        for function in functions(path)
        if looks_up(function) and throws_away(function)
    ]
    assert hidden == []


def looks_up(function: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_"
        for node in ast.walk(function)
    )


def throws_away(function: ast.AST) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id == "_" and isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.arg) and node.arg == "_")
        for node in ast.walk(function)
    )


def test_placeholders_are_compared_with_what_is_done_to_them(language: str) -> None:
    del language
    assert placeholders("{a} {b!r} {c:.2f} {{d}}") == {"a!None:", "b!r:", "c!None:.2f"}
