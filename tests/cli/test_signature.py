"""A group of options is declared once, and a command takes it as one value."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pytest
import typer

from omega21.cli.signature import command


@dataclass(frozen=True, kw_only=True)
class Link:
    panel: ClassVar = "Link"

    address: Annotated[str | None, typer.Option("--url")] = None
    timeout: Annotated[float, typer.Option(min=1)] = 60


@dataclass(frozen=True, kw_only=True)
class LinkArgument(Link):
    address: Annotated[str | None, typer.Argument()] = None
    key: Annotated[str, typer.Option()]


def made(taken: list[Any]) -> Any:
    app = typer.Typer(rich_markup_mode=None)

    @app.callback()
    def program() -> None:
        """Have commands below it."""

    @command(app)
    def ask(run: Annotated[str, typer.Argument()], *, link: Link, deep: bool = False) -> None:
        """Take a group beside a value of its own."""
        taken.append((run, link, deep))

    @command(app, "look")
    def other(*, link: LinkArgument) -> None:
        """Take the same group with one field declared otherwise."""
        taken.append(link)

    return typer.main.get_command(app)


def test_the_fields_are_options_and_the_command_gets_the_group() -> None:
    taken: list[Any] = []
    program = made(taken)
    program(["ask", "one", "--timeout", "5", "--url", "there"], standalone_mode=False)
    program(["ask", "two", "--deep"], standalone_mode=False)
    program(["look", "here", "--key", "k"], standalone_mode=False)
    assert taken == [
        ("one", Link(address="there", timeout=5), False),
        ("two", Link(), True),
        LinkArgument(address="here", key="k"),
    ]


def test_a_group_names_the_panel_of_its_options_alone() -> None:
    panels = {each.name: each.rich_help_panel for each in made([]).commands["ask"].params}
    assert panels == {"run": None, "address": "Link", "timeout": "Link", "deep": None}


def test_a_group_is_declared_again_for_each_command_that_takes_it() -> None:
    commands = made([]).commands
    assert [each.param_type_name for each in commands["ask"].params if each.name == "address"] == [
        "option"
    ]
    assert [each.param_type_name for each in commands["look"].params if each.name == "address"] == [
        "argument"
    ]


def test_a_field_without_a_default_is_required() -> None:
    taken: list[Any] = []
    with pytest.raises(typer.TyperException, match="key"):
        made(taken)(["look", "here"], standalone_mode=False)
    assert taken == []
