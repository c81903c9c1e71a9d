"""What the libraries underneath say is wrong, which they say in English alone.

typer and pydantic compose their messages themselves, so that they are recognised by their shape:
each is listed here as a message with named placeholders, looked up, and filled in. An unknown
message stays as it is.
"""

import re
from functools import cache
from typing import Final

from omega21.language import N_, _, current_language

_SENTENCES: Final = (
    # typer: what is wrong with a command line. The special ones come before the general ones.
    N_("No such option: {option} (Possible options: {options})"),
    N_("No such option: {option}"),
    N_("No such command {command}. Did you mean {commands}?"),
    N_("No such command {command}."),
    N_("Missing command."),
    N_("Missing argument {name}."),
    N_("Missing option {name}."),
    N_("Option {name} requires an argument."),
    N_("Option {name} does not take a value."),
    N_("Got unexpected extra argument(s) ({arguments})"),
    N_("Invalid value for {name}: {message}"),
    N_("Invalid value: {message}"),
    # pydantic: what is wrong with a value
    N_("Value error, {message}"),
    N_("{value} is not one of {values}."),
    N_("Field required"),
    N_("Extra inputs are not permitted"),
    N_("Input should be a valid integer, unable to parse string as an integer"),
    N_("Input should be a valid integer, got a number with a fractional part"),
    N_("Input should be a valid integer"),
    N_("Input should be a valid number, unable to parse string as a number"),
    N_("Input should be a valid number"),
    N_("Input should be a finite number"),
    N_("Input should be a valid boolean, unable to interpret input"),
    N_("Input should be a valid boolean"),
    N_("Input should be a valid string"),
    N_("Input should be a valid list"),
    N_("Input should be a valid tuple"),
    N_("Input should be a valid dictionary"),
    N_("Input should be a valid dictionary or object to extract fields from"),
    N_("Input should be an object"),
    N_("Input should be greater than or equal to {bound}"),
    N_("Input should be greater than {bound}"),
    N_("Input should be less than or equal to {bound}"),
    N_("Input should be less than {bound}"),
    N_("Input should be a multiple of {number}"),
    N_("Input should be {values}"),
    N_("String should match pattern {pattern}"),
    N_("String should have at least {count} character"),
    N_("String should have at least {count} characters"),
    N_("String should have at most {count} character"),
    N_("String should have at most {count} characters"),
    N_("List should have at least {least} item after validation, not {count}"),
    N_("List should have at least {least} items after validation, not {count}"),
    N_("List should have at most {most} item after validation, not {count}"),
    N_("List should have at most {most} items after validation, not {count}"),
    N_("Tuple should have at most {most} item after validation, not {count}"),
    N_("Tuple should have at most {most} items after validation, not {count}"),
    N_("'{value}' or '{other}'"),
    # why a server's process ended, and why a run stopped: kept in English, for whoever reads it
    N_("{moment}: killed by {signal} (out of memory?)"),
    N_("{moment}: killed by {signal}"),
    N_("{moment}: exit status {status}"),
    N_("step {step}: {message}"),
    N_("the loss or gradient of steps {first} to {last} was not finite"),
    N_("segment {number}, samples {places}"),
    N_("one sample does not fit in the device's memory"),
)

_NESTED: Final = {"message", "values"}
"""Placeholders that may hold a sentence themselves."""


def translated(text: str) -> str:
    """Return a library's sentence in the language that is spoken; one that is unknown, as it is."""
    if current_language() == "en":
        return text
    for shape, sentence in _shapes():
        if found := shape.fullmatch(text):
            parts = found.groupdict()
            spoken = {k: translated(v) if k in _NESTED else v for k, v in parts.items()}
            return _(sentence).format(**spoken)
    return text


@cache
def _shapes() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(_shape(sentence), re.DOTALL), sentence) for sentence in _SENTENCES)


def _shape(sentence: str) -> str:
    """The pattern of a sentence: its words as they are, anything in place of a placeholder."""
    words = re.split(r"\{(\w+)\}", sentence)
    return "".join(
        f"(?P<{part}>.+?)" if place % 2 else re.escape(part) for place, part in enumerate(words)
    )
