"""Help in panels, with examples; our texts in the language chosen, typer's own words in English.

The texts are plain English literals where the commands are. Before a command line is read, the
whole tree of commands is walked once and each text is looked up; in English, nothing is walked.
"""

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

from omega21.language import _

_TEXTS: Final = ("help", "metavar", "show_default", "rich_help_panel")
"""Texts of a parameter; `show_default` only where it describes a default."""
_ALONE: Final = {"--allow-code": "any"}
"""Options that may stand without a value, and the value that they have then."""
_COMMENTS: Final = re.compile(r"(?<=^# ).*$", re.MULTILINE)
"""The comments of the examples; the other lines are commands."""


class Command(TyperCommand):
    """A command whose help lists options by panel, and ends with examples."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line, with the values that may be left out; typer has no such option."""
        following = [*args[1:], "-"]
        whole = [
            f"{word}={_ALONE[word]}" if word in _ALONE and after.startswith("-") else word
            for word, after in zip(args, following, strict=False)
        ]
        return super().parse_args(ctx, whole)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options."""
        _write_panels(self, ctx, formatter)

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        if not self.epilog:
            return
        with formatter.section(_("Examples")):
            for line in cleandoc(self.epilog).splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(TyperGroup):
    """Commands under one name, with options of their own by panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options and the commands."""
        _write_panels(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def _write_panels(command: Any, context: Any, formatter: Any) -> None:
    """Write a command's arguments, then its options by panel, in the order of their first ones."""
    arguments, options = _("Arguments"), _("Options")
    panels: dict[str, list[tuple[str, str]]] = {arguments: []}
    for parameter in command.get_params(context):
        if (record := parameter.get_help_record(context)) is not None:
            is_option = parameter.param_type_name == "option"
            title = (parameter.rich_help_panel or options) if is_option else arguments
            panels.setdefault(title, []).append(record)
    for title, records in panels.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def translate_help(command: Any) -> None:
    """Translate the help of a command and of all its subcommands."""
    if command.help:
        command.help = "\n\n".join(map(_, paragraphs(command.help)))
    if command.epilog:
        command.epilog = _COMMENTS.sub(lambda comment: _(comment[0]), command.epilog)
    for parameter in command.params:
        for name in _TEXTS:
            if isinstance(text := getattr(parameter, name), str) and text:
                setattr(parameter, name, _(text))
    for child in getattr(command, "commands", {}).values():
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
