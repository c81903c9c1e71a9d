"""Help in panels, with examples, in the language chosen: our texts, and typer's own words.

The texts are plain English literals where the commands are. Before a command line is read, the
whole tree of commands is walked once and each text is looked up; in English, nothing is walked.
"""

import re
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import Any, Final

import typer

# typer keeps its formatter to itself, and has no other place where its words could be changed.
from typer._click.formatting import HelpFormatter
from typer.core import TyperCommand, TyperGroup

from omega21.language import _
from omega21.language.borrowed import translated

_TEXTS: Final = ("help", "metavar", "show_default", "rich_help_panel")
"""Texts of a parameter; `show_default` only where it describes a default."""
_COMMENTS: Final = re.compile(r"(?<=^# ).*$", re.MULTILINE)
"""The comments of the examples; the other lines are commands."""
_EXTRAS: Final = re.compile(r"(?P<text>.*?)(?P<space>(?:  )?)\[(?P<extras>[^\[\]]*)\]", re.DOTALL)
"""What typer writes after an option's help: [env var: NAME; default: 42; x>=1]."""


class Command(TyperCommand):
    """A command whose help lists options by panel, and ends with examples."""

    def format_options(self, ctx: Any, formatter: HelpFormatter) -> None:
        """Write the arguments and options."""
        _write_panels(self, ctx, formatter)

    def format_epilog(self, _ctx: Any, formatter: HelpFormatter) -> None:
        """Write the examples."""
        if not self.epilog:
            return
        with formatter.section(_("Examples")):
            for line in cleandoc(self.epilog).splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(TyperGroup):
    """Commands under one name, with options of their own by panel."""

    def format_options(self, ctx: Any, formatter: HelpFormatter) -> None:
        """Write the options and the commands."""
        _write_panels(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def _write_panels(command: Any, context: Any, formatter: HelpFormatter) -> None:
    """Write a command's arguments, then its options by panel, in the order of their first ones."""
    panels: dict[str, list[tuple[str, str]]] = {"Arguments": []}
    for parameter in command.get_params(context):
        if (record := parameter.get_help_record(context)) is not None:
            is_option = parameter.param_type_name == "option"
            title = (parameter.rich_help_panel or "Options") if is_option else "Arguments"
            panels.setdefault(title, []).append(record)
    for title, records in panels.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def translate_help(command: Any) -> None:
    """Translate the help of a command and of all its subcommands."""
    command.context_class = _Context
    if command.help:
        command.help = "\n\n".join(map(_, paragraphs(command.help)))
    if command.epilog:
        command.epilog = _COMMENTS.sub(lambda comment: _(comment[0]), command.epilog)
    command.options_metavar = translated(command.options_metavar or "")
    for parameter in command.params:
        for name in _TEXTS:
            if isinstance(text := getattr(parameter, name), str) and text:
                setattr(parameter, name, _(text))
    children = getattr(command, "commands", None)
    if children is not None:
        command.subcommand_metavar = translated(command.subcommand_metavar)
        for child in children.values():
            translate_help(child)


def help_texts(command: Any) -> Iterator[str]:
    """Yield each text that `translate_help` looks up."""
    yield from paragraphs(command.help or "")
    yield from _COMMENTS.findall(command.epilog or "")
    for parameter in command.params:
        texts = (getattr(parameter, name) for name in _TEXTS)
        yield from (text for text in texts if isinstance(text, str) and text)
    for child in getattr(command, "commands", {}).values():
        yield from help_texts(child)


def paragraphs(text: str) -> list[str]:
    """Split a command's help into paragraphs without line breaks."""
    shown = cleandoc(text).partition("\f")[0].strip()
    return [" ".join(paragraph.split()) for paragraph in shown.split("\n\n") if paragraph]


class _Formatter(HelpFormatter):
    """typer's formatter with its own words translated."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line."""
        super().write_usage(prog, args, prefix or translated("Usage: "))

    def write_heading(self, heading: str) -> None:
        """Write the title of a section."""
        super().write_heading(translated(heading))

    def write_dl(
        self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write names and their descriptions."""
        spoken = [(name, _translated_row(text)) for name, text in rows]
        super().write_dl(spoken, col_max, col_spacing)


class _Context(typer.Context):
    formatter_class = _Formatter


def _translated_row(text: str) -> str:
    found = _EXTRAS.fullmatch(text)
    if found is None:
        return translated(text)
    extras = "; ".join(map(translated, found["extras"].split("; ")))
    return f"{translated(found['text'])}{found['space']}[{extras}]"
