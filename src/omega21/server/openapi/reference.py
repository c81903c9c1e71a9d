"""The calls of an OpenAPI document as records, for its page and the reference."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omega21.protocol.errors import PROBLEM_MEDIA_TYPE

_METHODS = ("get", "head", "post", "put", "delete")
_LONGEST_LIST = 8
_SHOWN_ITEMS = 2

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A parameter in the path, the query or a header."""

    name: str
    place: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True)
class Content:
    """A body in one direction: its media type, its message, and an example as text."""

    media_type: str
    type: str
    example: str | None


@dataclass(frozen=True)
class Answer:
    """A successful reply."""

    status: str
    description: str
    contents: tuple[Content, ...]


@dataclass(frozen=True)
class Refusal:
    """An error that a call can answer with."""

    status: str
    code: str
    meaning: str


@dataclass(frozen=True)
class Call:
    """One call."""

    method: str
    path: str
    tag: str
    description: str
    parameters: tuple[Parameter, ...]
    requests: tuple[Content, ...]
    answers: tuple[Answer, ...]
    refusals: tuple[Refusal, ...]

    @property
    def anchor(self) -> str:
        """The anchor for links to it."""
        kept = [c if c.isalnum() else "-" for c in f"{self.method}{self.path}".lower()]
        return "".join(kept).replace("--", "-").strip("-")

    @property
    def summary(self) -> str:
        """The first sentence."""
        return self.description.partition("\n")[0]


@dataclass(frozen=True)
class Field:
    """A field of a message."""

    name: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True)
class Message:
    """A message, by the name of its class."""

    name: str
    description: str
    fields: tuple[Field, ...]


def calls(document: Json) -> Iterator[Call]:
    """List the calls, in the document's order."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield _call(method, path, item[method])


def messages(document: Json) -> Iterator[Message]:
    """List the messages, by name."""
    for name, schema in sorted(document["components"]["schemas"].items()):
        required = set(schema.get("required", ()))
        fields = (
            Field(key, type_name(value), key in required, _one_line(value.get("description", "")))
            for key, value in schema.get("properties", {}).items()
        )
        yield Message(name, schema.get("description", ""), tuple(fields))


def type_name(schema: Json) -> str:
    """Describe a schema briefly."""
    match schema:
        case {"$ref": str(reference)}:
            name = reference.rpartition("/")[2]
        case {"anyOf": parts} | {"oneOf": parts}:
            name = " or ".join(dict.fromkeys(type_name(part) for part in parts))
        case {"const": value}:
            name = json.dumps(value)
        case {"enum": values}:
            name = " or ".join(json.dumps(value) for value in values)
        case {"type": "array"}:
            name = f"list of {type_name(schema.get('items', {}))}"
        case {"format": "binary"}:
            name = "file"
        case _:
            name = str(schema.get("type", "any")) + _bounds(schema)
    return name


def _bounds(schema: Json) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return f" {', '.join(bounds)}" if bounds else ""


def _call(method: str, path: str, operation: Json) -> Call:
    answers: list[Answer] = []
    refusals: list[Refusal] = []
    for status, reply in sorted(operation["responses"].items()):
        content = reply.get("content", {})
        if PROBLEM_MEDIA_TYPE in content:
            refusals += _refusals(status, reply["description"])
        else:
            answers.append(Answer(status, reply["description"], _contents(content)))
    return Call(
        method=method.upper(),
        path=path,
        tag=operation["tags"][0],
        description=operation["description"],
        parameters=tuple(_parameter(item) for item in operation.get("parameters", ())),
        requests=_contents(operation.get("requestBody", {}).get("content", {})),
        answers=tuple(answers),
        refusals=tuple(refusals),
    )


def _parameter(item: Json) -> Parameter:
    description = item.get("description") or item["schema"].get("description", "")
    return Parameter(
        name=item["name"],
        place=item["in"],
        type=type_name(item["schema"]),
        required=item.get("required", False),
        description=_one_line(description),
    )


def _contents(content: Json) -> tuple[Content, ...]:
    return tuple(
        Content(media_type, type_name(item.get("schema", {})), _example(item))
        for media_type, item in content.items()
    )


def _example(item: Json) -> str | None:
    example = item.get("example")
    for named in item.get("examples", {}).values():
        example = named["value"]
    return None if example is None else _show(example)


def _refusals(status: str, description: str) -> Iterator[Refusal]:
    for line in description.split("\n\n"):
        code, _, meaning = line.partition(": ")
        yield Refusal(status, code.strip("`"), meaning)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _show(value: Any, indent: str = "") -> str:
    """Format JSON on several lines, with long lists of numbers shortened."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(key)}: {_show(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[" + ", ".join(_show(item, indent) for item in value) + "]"
    if isinstance(value, list) and len(value) > _LONGEST_LIST:
        start = ", ".join(json.dumps(item) for item in value[:_SHOWN_ITEMS])
        return f"[{start}, … {len(value)} in all]"
    return json.dumps(value, ensure_ascii=False)
