"""The words that docs/style.md lists as dropped are used nowhere: the page is the list."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "omega21"
STYLE = ROOT / "docs" / "style.md"
SPANISH_PAGES = (
    *("README.es.md", "GUIA_RAPIDA_COLAB.md", "INSTALACION_RAPIDA.md", "docs/vscode-es.md"),
)
ENGLISH_PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md")
READ = ("src/**/*.py", "src/**/static/*.*", "tools/**/*.py", "docs/*.py", *ENGLISH_PAGES)
_CODE = re.compile(r"```.*?```|`[^`]*`|\{[^}]*\}|omega21 [\w-]+|--\S+|\S*[/_=]\S*", re.DOTALL)
_JOIN = re.compile(r"\s*[\"']?\s*\n\s*(?:#|//|\*|f?[\"'])?\s*")


def dropped(heading: str) -> list[str]:
    """The first column of the table under a heading of docs/style.md."""
    section = STYLE.read_text("utf-8").partition(f"# {heading}\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `([^`]+)` \| \S", section, re.MULTILINE)


def pattern(words: str) -> re.Pattern[str]:
    """What finds `words` whole; `*` stands for the rest of a word."""
    return re.compile(rf"\b{re.escape(words)}\b".replace(r"\*\b", r"\w*"), re.IGNORECASE)


def as_words(text: str) -> str:
    """A text with its names taken apart, and sentences over several lines in one."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", text)
    return _JOIN.sub(" ", apart)


def english_texts() -> dict[str, str]:
    paths = {path for glob in READ for path in ROOT.glob(glob)} - {STYLE}
    return {
        str(path.relative_to(ROOT)): as_words(path.read_text("utf-8"))
        for path in sorted(paths)
        if str(path.relative_to(ROOT)) not in SPANISH_PAGES
    }


def spanish_texts() -> dict[str, str]:
    """Everything in Spanish that a person reads, by where it stands; code and commands left out."""
    with (SOURCE / "locales/es/LC_MESSAGES/omega21.po").open("rb") as file:
        messages = [entry.string for entry in read_po(file) if entry.id]
    page = json.loads((SOURCE / "server/static/texts.json").read_text("utf-8"))["es"]
    texts = {
        "catalogue": "\n".join(t if isinstance(t, str) else "\n".join(t) for t in messages),
        "dashboard": "\n".join(page.values()),
    }
    texts |= {name: (ROOT / name).read_text("utf-8") for name in SPANISH_PAGES}
    return {name: as_words(_CODE.sub(" ", text)) for name, text in texts.items()}


def names() -> Iterator[str]:
    """Every module, class and function of the package."""
    for path in SOURCE.rglob("*.py"):
        yield path.stem
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name.strip("_")


def uses(words: str, texts: dict[str, str]) -> list[str]:
    """Where a dropped word stands, with what is around it."""
    return [
        f"{name}: …{text[max(found.start() - 40, 0) : found.end() + 40]}…"
        for name, text in texts.items()
        for found in pattern(words).finditer(text)
    ]


@pytest.mark.parametrize("words", dropped("Dropped words"))
def test_english(words: str) -> None:
    assert uses(words, english_texts()) == []


@pytest.mark.parametrize("words", dropped("En español"))
def test_spanish(words: str) -> None:
    assert uses(words, spanish_texts()) == []


def test_names() -> None:
    assert {name.casefold() for name in dropped("Dropped names")} & {
        name.casefold() for name in names()
    } == set()


@pytest.mark.parametrize(
    "text",
    [
        "a lost thing",
        "LostThing = 1",
        "lost_things(1)",
        "# what is lost\n    # things that stay",
        '"of the lost "\n    "thing"',
    ],
)
def test_a_dropped_word_is_found_however_it_is_written(text: str) -> None:
    assert uses("lost thing*", {"here": as_words(text)})


def test_the_tables_are_read() -> None:
    assert all(dropped(h) for h in ("Dropped words", "Dropped names", "En español"))
