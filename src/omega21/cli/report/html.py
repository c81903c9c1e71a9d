"""A report as one HTML file: no scripts, no external resources, a light and a dark theme."""

import html
from typing import Final

from omega21.cli.report import charts
from omega21.cli.report.blocks import (
    Block,
    Chart,
    Charts,
    Commands,
    KeyValues,
    Report,
    Section,
    Table,
    Text,
)
from omega21.language import current_language
from omega21.protocol.printable import printable

_STYLE: Final = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #17191c; --soft: #5a616b;
  --line: #c9ced6; --first: #1d5fd1; --second: #b45309; }
@media (prefers-color-scheme: dark) { :root { --page: #14161a; --card: #1c1f25; --ink: #e8eaed;
  --soft: #a3abb6; --line: #4a515c; --first: #7aa7ff; --second: #f0a94a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem; }
header p { color: var(--soft); margin: 0 0 1.5rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 1rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.25rem 1.5rem; margin: 1.25rem 0; }
.highlights { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr));
  gap: .75rem; margin: 0; }
.highlights div { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: .8rem 1rem; }
.highlights dt { color: var(--soft); font-size: .85rem; }
.highlights dd { margin: 0; font-size: 1.45rem; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 1rem; }
figure { margin: 0; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .85rem; text-align: center; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .75rem 0; }
th, td { text-align: left; padding: .3rem 1.25rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem; }
.values th { color: var(--soft); font-weight: 400; white-space: nowrap; }
.values td { overflow-wrap: anywhere; }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 8px; padding: .75rem;
  overflow-x: auto; font-size: .85rem; }
footer { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
@media (max-width: 600px) { section { padding: 1rem; } .values th { white-space: normal; } }
/* On paper nothing scrolls: what is wide is folded, and a section may go over the page's end. */
@media print {
  :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #17191c; --soft: #5a616b;
    --line: #c9ced6; --first: #1d5fd1; --second: #b45309; }
  @page { margin: 15mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  section { padding: .8rem 1rem; }
  h2 { break-after: avoid; }
  figure, tr, .highlights div { break-inside: avoid; }
  .scroll { overflow: visible; }
  th, td { padding-right: .7rem; overflow-wrap: anywhere; }
  .scroll table, .scroll thead th { font-size: 8.5pt; }
  pre { overflow: visible; white-space: pre-wrap; overflow-wrap: anywhere; }
}
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def write_html(report: Report) -> str:
    """Return a report as an HTML page."""
    highlights = "".join(
        f"<div><dt>{_escape(name)}</dt><dd>{_escape(value)}</dd></div>"
        for name, value in report.highlights
    )
    sections = "".join(map(_section, report.sections))
    return (
        f'<!doctype html>\n<html lang="{current_language()}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{_escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{_escape(report.title)}</h1><p>{_escape(report.subtitle)}</p></header>\n"
        f'<dl class="highlights">{highlights}</dl>\n{sections}'
        f"<footer>{_escape(report.footer)}</footer>\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    blocks = "\n".join(map(_block, section.blocks))
    return f"<section>\n<h2>{_escape(section.title)}</h2>\n{blocks}\n</section>\n"


def _block(block: Block) -> str:
    match block:
        case KeyValues(rows):
            cells = "".join(
                f'<tr><th scope="row">{_escape(name)}</th><td>{_escape(value)}</td></tr>'
                for name, value in rows
            )
            return f'<table class="values"><tbody>{cells}</tbody></table>'
        case Table(titles, rows):
            head = "".join(f'<th scope="col">{_escape(title)}</th>' for title in titles)
            body = "".join(
                f"<tr>{''.join(f'<td>{_escape(cell)}</td>' for cell in row)}</tr>" for row in rows
            )
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            return f'<div class="scroll" tabindex="0">{table}</div>'
        case Text(text):
            return f"<p>{_escape(text)}</p>"
        case Commands(lines):
            return f"<pre><code>{chr(10).join(map(_escape, lines))}</code></pre>"
        case Charts(drawn):
            return f'<div class="charts">{"".join(map(_chart, drawn))}</div>'


def _escape(text: str) -> str:
    """Escape a text for HTML, control characters included."""
    return html.escape(printable(text))


def _chart(chart: Chart) -> str:
    caption = _escape(chart.caption)
    drawn = charts.svg(chart)
    drawn = drawn.replace("<svg", f'<svg role="img" aria-label="{caption}"', 1)
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>"
