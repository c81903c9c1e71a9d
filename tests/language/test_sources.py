"""Each text that the source gives to a person is looked up: the source itself is read for it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from omega21.protocol.errors import error_classes
from translations.catalogue import template

PACKAGE = Path(__file__).parents[2] / "src" / "omega21"

SHOWING = {error.__name__ for error in error_classes()} | {
    "OmegaError",
    "Notice",
    "NotChecked",
    "Found",
    "BadParameter",
    "echo",
    "facts",
    "listing",
    "print",
}
"""What is made of a text, or called with one, for a person to read."""

METHODS_OF = {"output", "self._output", "view", "self._view"}
"""What shows a text by its methods."""

CODES = {"AUROC", "GPU", "HTTP", "TLS", "ms", "sha", "torch"}
"""Names and units, which are the same in every language."""

ALLOWED = {
    "colab.py": "its vocabulary, and so its errors, are Spanish for everyone",
    "server/main.py": "lines that a program reads (`listening on …`), and commands to be copied",
}

NAMES = re.compile(r"--?[\w-]+|`[^`]*`|\S*[._/:=]\S*|\bomega21( \S+)?")


def texts(node: ast.AST) -> Iterator[ast.expr]:
    """The literals in an expression, those that are looked up left out."""
    if isinstance(node, ast.Call):
        if name_of(node.func) in {"_", "N_", "ngettext", "translated"}:
            return
        if name_of(node.func) in {"format", "join", "Text", "assemble"}:
            # Any other function's arguments are looked at when it is one that shows.
            for part in (*node.args, *ast.iter_child_nodes(node.func)):
                yield from texts(part)
    elif isinstance(node, ast.Subscript | ast.Compare | ast.Dict):
        return  # keys, and what is compared
    elif isinstance(node, ast.Constant | ast.JoinedStr):
        yield node
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


def says_something(text: ast.expr) -> bool:
    """Whether a literal holds a word, beside names, units and what is filled in."""
    pieces = text.values if isinstance(text, ast.JoinedStr) else [text]
    words = " ".join(
        piece.value
        for piece in pieces
        if isinstance(piece, ast.Constant) and isinstance(piece.value, str)
    )
    found = re.findall(r"[^\W\d_]{2,}", NAMES.sub(" ", words))
    return any(word not in CODES for word in found)


def shown(call: ast.Call) -> Iterator[ast.expr]:
    """What of a call a person reads: its texts, but not its options."""
    function = call.func
    showing = name_of(function) in SHOWING and not (
        isinstance(function, ast.Attribute) and ast.unparse(function.value) == "self"
    )
    if isinstance(function, ast.Attribute) and ast.unparse(function.value) in METHODS_OF:
        showing = function.attr in {"note", "aside", "result", "confirmed"}
    if showing:
        yield from call.args
        yield from (w.value for w in call.keywords if w.arg in {"hint", "message", "text"})


def untranslated(source: str) -> list[str]:
    """Name the texts of a module that a person reads in English whatever is spoken."""
    return [
        f"{text.lineno}: {ast.unparse(text)}"
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        for argument in shown(call)
        for text in texts(argument)
        if says_something(text)
    ]


def test_every_text_for_a_person_is_looked_up() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): names
        for path in sorted(PACKAGE.rglob("*.py"))
        if (names := untranslated(path.read_text(encoding="utf-8")))
    }
    assert {name: found[name] for name in found.keys() - ALLOWED.keys()} == {}
    assert ALLOWED.keys() <= found.keys(), "what is allowed and not there any more"


@pytest.mark.parametrize(
    "source",
    [
        "raise UnknownRun('there is no such run')",
        "raise UnknownRun(f'no run {name!r}')",
        "raise UnknownRun(_('no run'), hint='make one')",
        "raise UnknownRun('no run {}'.format(name))",
        "raise Unavailable(_('no') if soon else 'stopping now')",
        "await emit(Notice('sending again ' + what))",
        "output.note(f'resuming {name}')",
        "facts([('durable step', str(step))])",
        "typer.echo('done now')",
    ],
)
def test_a_text_that_is_not_is_found(source: str) -> None:
    assert len(untranslated(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "raise UnknownRun(_('no run {run}').format(run=name), hint=_('make one'))",
        "output.note(f'{count(3)} ms')",
        "facts([(_('run'), figures['state']), ('AUROC', number(0.5))])",
        "output.result({'state': 'paused'}, Text(shown))",
        "raise NotOmega21(f'HTTP {status}')",
        "logger.warning('the run stopped')",
    ],
)
def test_what_needs_no_translation_is_left(source: str) -> None:
    assert untranslated(source) == []


def looked_up(source: str) -> Iterator[str]:
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and name_of(call.func) in {"_", "N_", "ngettext"}:
            first = call.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def test_each_text_that_is_looked_up_is_extracted() -> None:
    """Babel does not see a call inside an f-string, which is one token to Python 3.11."""
    known = {
        text
        for message in template()
        for text in (message.id if isinstance(message.id, tuple | list) else [message.id])
    }
    found = {
        text
        for path in PACKAGE.rglob("*.py")
        for text in looked_up(path.read_text(encoding="utf-8"))
        if text
    }
    assert found - known == set()
