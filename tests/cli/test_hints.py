"""Every command that the program tells a person to type exists, with its options."""

import re

import pytest
import typer

from omega21.cli.app import app
from translations.catalogue import template

COMMAND = typer.main.get_command(app)
NAMED = re.compile(r"omega21 ([a-z][^`;,()\n]*)")
STOPS = re.compile(r"\s(?:where|goes|removes|lists|shows|says|and|has|with|in|to|makes|is|on|or)\s")


def told() -> list[str]:
    """The commands in all that can be said, in English."""
    found = set()
    for message in template():
        texts = [message.id] if isinstance(message.id, str) else list(message.id)
        for text in texts:
            for words in re.findall(r"`([^`]*)`", text) or [text]:
                if words != "omega21 version" and re.search(r"(^|: )omega21 ", words):
                    found |= {STOPS.split(match)[0] for match in NAMED.findall(words)}
    return sorted(found)


def faults(words: str) -> list[str]:
    """What of a command line the program does not know."""
    command, wrong = COMMAND, []
    for word in words.replace("…", "").split():
        if word.startswith("--"):
            options = {
                name for param in command.params for name in (*param.opts, *param.secondary_opts)
            }
            if word.partition("=")[0] not in options:
                wrong.append(word)
        elif (commands := getattr(command, "commands", None)) and not word.startswith("{"):
            if word in commands:
                command = commands[word]
            elif command is COMMAND:
                wrong.append(word)
    return wrong


def test_there_are_some() -> None:
    assert len(told()) > 10
    assert faults("resume RUN --url URL") == []
    assert faults("resume RUN --nothing") == ["--nothing"]
    assert faults("nothing") == ["nothing"]


@pytest.mark.parametrize("words", told())
def test_what_a_person_is_told_to_type_exists(words: str) -> None:
    assert faults(words) == []
