"""The page at /docs: the OpenAPI document as HTML, without scripts or external resources.

The usual renderers are loaded from a CDN, and need scripts that a strict content policy blocks.
"""

from collections.abc import Iterable
from html import escape
from itertools import groupby

from omega21.server.openapi.reference import (
    Call,
    Content,
    Json,
    Message,
    Parameter,
    calls,
    messages,
)

STYLE = """\
:root { color-scheme: light dark; --line: #8885; --dim: #808080; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--line); border-radius: 6px; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0;
  padding: .25rem .75rem; }
summary { cursor: pointer; padding: .25rem 0; }
summary code { font-weight: 600; }
summary span, .dim { color: var(--dim); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid var(--line); }
h2 { margin-top: 2rem; }
"""


def render_page(document: Json) -> str:
    """Render every call and message of an OpenAPI document."""
    info = document["info"]
    sections = "".join(
        f"<h2>{escape(tag)}</h2>{''.join(map(_call, group))}"
        for tag, group in groupby(calls(document), key=lambda call: call.tag)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}: the calls</title>"
        '<link rel="stylesheet" href="/docs/style.css"></head><body>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['summary'])}</p>"
        '<p>The same for programs: <a href="/openapi.json">/openapi.json</a>. '
        "Errors are <code>application/problem+json</code>; the codes are stable.</p>"
        f"{sections}<h2>messages</h2>{''.join(map(_message, messages(document)))}</body></html>"
    )


def _call(call: Call) -> str:
    parts = [f"<p>{_prose(part)}</p>" for part in call.description.split("\n\n")]
    parts.append(_table("Parameters", map(_parameter, call.parameters)))
    parts += [_content("Body", content) for content in call.requests]
    for answer in call.answers:
        parts.append(f"<h4>{answer.status}: {_prose(answer.description)}</h4>")
        parts += [_content("", content) for content in answer.contents]
    refusals = (
        (refusal.status, f"<code>{escape(refusal.code)}</code>", _prose(refusal.meaning))
        for refusal in call.refusals
    )
    parts.append(_table("Errors", refusals))
    name = f"{call.method} {call.path}"
    return _details(call.anchor, name, summary=call.summary, body="".join(parts))


def _parameter(parameter: Parameter) -> tuple[str, ...]:
    return (
        f"<code>{escape(parameter.name)}</code>",
        escape(parameter.place),
        _kind(parameter.type, required=parameter.required),
        _prose(parameter.description),
    )


def _message(message: Message) -> str:
    rows = (
        (
            f"<code>{escape(f.name)}</code>",
            _kind(f.type, required=f.required),
            _prose(f.description),
        )
        for f in message.fields
    )
    summary = message.description.partition("\n")[0]
    return _details(message.name, message.name, summary=summary, body=_table("", rows))


def _content(title: str, content: Content) -> str:
    head = f"{title} <code>{escape(content.media_type)}</code>: {escape(content.type)}"
    example = f"<pre>{escape(content.example)}</pre>" if content.example else ""
    return f"<p>{head}</p>{example}"


def _details(anchor: str, name: str, *, summary: str, body: str) -> str:
    return (
        f'<details id="{escape(anchor)}"><summary><code>{escape(name)}</code> '
        f"<span>{_prose(summary)}</span></summary>{body}</details>"
    )


def _table(title: str, rows: Iterable[tuple[str, ...]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return ""
    return (f"<h4>{title}</h4>" if title else "") + f"<table>{body}</table>"


def _kind(type_name: str, *, required: bool) -> str:
    return escape(type_name) + ("" if required else ' <span class="dim">optional</span>')


def _prose(text: str) -> str:
    """Escape text, with backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
