"""The help of a command: options by panel, and at the end examples that work."""

import re
import shlex
from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import pytest
import typer

from omega21.cli.app import app
from omega21.cli.ui.help import translate_help
from omega21.language import speaking
from tests.docs.test_commands import parse


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


COMMANDS = dict(commands(typer.main.get_command(app), "omega21"))
EXAMPLES = {path: cleandoc(found.epilog) for path, found in COMMANDS.items() if found.epilog}


def shown(command: Any, path: str) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    return str(command.get_help(context))


def titles(text: str) -> list[str]:
    return [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]


@pytest.mark.parametrize(
    ("path", "panels"),
    [
        ("omega21 train", ["Data", "Training", "Model", "Server", "Tracking", "Output"]),
        ("omega21 resume", ["Server", "Tracking", "Output"]),
        ("omega21 serve", ["Network", "Compute", "Storage", "Code"]),
    ],
)
def test_the_options_stand_in_panels(path: str, panels: list[str]) -> None:
    found = titles(shown(COMMANDS[path], path))
    assert [title for title in found if title not in {"Arguments", "Options"}] == [
        *panels,
        "Examples",
    ]


@pytest.mark.parametrize("path", COMMANDS)
def test_each_option_is_listed_once(path: str) -> None:
    command = COMMANDS[path]
    _description, _title, sections = shown(command, path).partition(":\n")
    listed = re.findall(r"^  (?=-)(.*?)(?:  |$)", sections, re.MULTILINE)
    names = [name for entry in listed for name in re.findall(r"(?<![\w-])--?[a-z-]+", entry)]
    visible = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    options = [parameter for parameter in visible if parameter.param_type_name == "option"]
    spellings = [name for each in options for name in (*each.opts, *each.secondary_opts)]
    assert sorted(name for name in names if name not in {"-h", "--help"}) == sorted(spellings)


@pytest.mark.parametrize("path", EXAMPLES)
def test_the_examples_are_commands_of_this_kind(path: str) -> None:
    lines = EXAMPLES[path].splitlines()
    assert lines[0].startswith("# ")
    for line in lines:
        if not line.startswith("# "):
            assert line == path or line.startswith(f"{path} ")
            parse(shlex.split(line.partition(" > ")[0])[1:])


def test_the_panels_and_what_is_said_of_examples_are_translated() -> None:
    command: Any = typer.main.get_command(app)
    with speaking("es"):
        translate_help(command)
        text = shown(command.commands["train"], "omega21 train")
    assert {"Datos", "Servidor", "Ejemplos"} <= set(titles(text))
    assert "\n  omega21 train\n" in text
    comments = [line for line in EXAMPLES["omega21 train"].splitlines() if line.startswith("# ")]
    assert not any(comment in text for comment in comments)
