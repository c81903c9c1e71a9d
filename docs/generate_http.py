"""Writes docs/reference/http.md, the reference of the HTTP calls, from the server's OpenAPI.

`python docs/generate_http.py` writes it; with `--check` it fails when the page is not current.
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from omega21.engine.engine import Engine
from omega21.server.app import create_app
from omega21.server.auth.access import Access
from omega21.server.openapi.reference import Call, Content, Json, Message, calls, messages

PAGE = Path(__file__).parent / "reference" / "http.md"

HEAD = """\
# HTTP calls

<!-- Made by docs/generate_http.py from the server's OpenAPI document: change that, not this. -->

A server describes itself the same way at `/docs`, and for programs at `/openapi.json`.
`?run=NAME` selects a run; without it, `default`. Errors are `application/problem+json` with a
stable `code`, a `detail` that says what to do, and `"status_text": "error"`; an error of the 4xx
kind has changed nothing. The `detail` is in English, or in Spanish where the request's
`Accept-Language` prefers it; everything else is the same in both. Every reply has an
`X-Request-Id`, by which the server's log knows it.

With a token, every call but `GET /health` needs it: `Authorization: Bearer TOKEN`, or the token
as the password of basic authentication.
"""


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare; return the exit status."""
    page = render(describe())
    if "--check" not in arguments:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page, encoding="utf-8", newline="\n")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page:
        return 0
    sys.stderr.write(f"{PAGE} is not current: run python docs/generate_http.py\n")
    return 1


def describe() -> Json:
    """Return the OpenAPI document of a server."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder))
        engine.start()
        try:
            return create_app(engine, access=Access()).openapi()
        finally:
            engine.stop()


def render(document: Json) -> str:
    """Write the reference as Markdown."""
    every = list(calls(document))
    parts = [HEAD, "## Overview\n", _overview(every)]
    for tag, group in groupby(every, key=lambda call: call.tag):
        parts.append(f"## {tag.capitalize()}\n")
        parts += [part for call in group for part in _call(call)]
    parts.append("## Messages\n")
    parts += [part for message in messages(document) for part in _message(message)]
    return "\n".join(parts)


def _overview(every: list[Call]) -> str:
    rows = ((f"[`{c.method} {c.path}`](#{_anchor(c)})", _first_sentence(c)) for c in every)
    return _table(("call", "does"), rows)


def _anchor(call: Call) -> str:
    # As mkdocs makes it from the heading.
    words = f"{call.method} {call.path}".lower().split()
    return "-".join("".join(c for c in word if c.isalnum() or c in "_-") for word in words)


def _first_sentence(call: Call) -> str:
    return call.summary.rstrip(".")


def _call(call: Call) -> Iterator[str]:
    yield f"### {call.method} {call.path}\n"
    yield call.description + "\n"
    if call.parameters:
        rows = (
            (f"`{p.name}`", p.place, p.type, "" if p.required else "optional", p.description)
            for p in call.parameters
        )
        yield _table(("parameter", "in", "type", "", "meaning"), rows)
    for content in call.requests:
        yield from _content("Body", content)
    for answer in call.answers:
        yield f"**{answer.status}**: {answer.description}\n"
        for content in answer.contents:
            yield from _content("Reply", content)
    yield _table(
        ("status", "code", "meaning"),
        ((r.status, f"`{r.code}`", r.meaning) for r in call.refusals),
    )


def _content(title: str, content: Content) -> Iterator[str]:
    yield f"{title} `{content.media_type}`: {_linked(content.type)}\n"
    if content.example:
        yield f"```text\n{content.example}\n```\n"


def _linked(type_name: str) -> str:
    return f"[{type_name}](#{type_name.lower()})" if type_name[:1].isupper() else type_name


def _message(message: Message) -> Iterator[str]:
    yield f"### {message.name}\n"
    yield message.description + "\n"
    rows = (
        (f"`{f.name}`", f.type, "" if f.required else "optional", f.description)
        for f in message.fields
    )
    yield _table(("field", "type", "", "meaning"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    body = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    if not body:
        return ""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *body]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
