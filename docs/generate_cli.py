"""Writes docs/reference/cli.md from the help texts of the commands and the classes of the errors.

python docs/generate_cli.py           # write the page
python docs/generate_cli.py --check   # exit 1 when it is not what the code says
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from omega21.cli.app import app
from omega21.protocol.errors import OmegaError, error_classes

PAGE = Path(__file__).parent / "reference" / "cli.md"

_INTRODUCTION = """\
# Command line

<!-- Made by docs/generate_cli.py from the help texts and the error classes: change those. -->

Results go to standard output; progress, notices and errors go to standard error, so that
`omega21 train --json > events.jsonl` writes JSON lines and still shows notices. On a terminal
`train` shows a live view, elsewhere plain lines; `NO_COLOR=1` disables colours.

The environment variables `COLAB_SERVER_URL`, `OMEGA21_TOKEN` and `OMEGA21_CA` replace `--url`,
`--token` and `--ca`. Without an address a command uses the server used last, which is stored with
its token ([how](../access.md)); `runs` lists the runs of this machine, and `verify` starts a server
here. Commands about a run that was trained on this machine run here. If no server was used yet,
`train` starts one on this machine until the training ends, and the other commands use
`http://127.0.0.1:8000`, where `omega21 serve` listens.
"""

_EXIT_STATUSES = """\
## Exit statuses

An error is one line on standard error: `error: `, what is wrong and what to do. The exit status
says which error it is, with `--json` too. Others than in the table: 0 success, 1 a file or folder
that cannot be read or written, or a question answered with no, 2 an invalid option, 130 Ctrl-C.

| status | code | meaning | what to do |
|---:|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    sections = [_INTRODUCTION]
    for path, text in _help_texts(typer.main.get_command(app), "omega21"):
        sections.append(f"## `{path}`\n\n```text\n{text}\n```\n")
    sections.append(_EXIT_STATUSES + "\n".join(_error_rows()) + "\n")
    return "\n".join(sections)


def _help_texts(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    """Yield each command's path and help text, the command itself first."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield context.command_path, command.get_help(context).rstrip()
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _help_texts(child, child_name, context)


def _error_rows() -> Iterator[str]:
    for cls in sorted(error_classes(), key=lambda cls: cls.exit_code):
        meaning = (cls.__doc__ or "").partition("\n")[0].rstrip(".")
        if cls is OmegaError:
            meaning = "Any other error that omega21 raises on purpose"
        yield f"| {cls.exit_code} | `{cls.code}` | {meaning} | {cls.default_hint} |"


def main(arguments: list[str]) -> int:
    """Write the page, or with --check compare it; return the exit status."""
    os.environ["COLUMNS"] = "80"  # the width of the help texts, whatever this terminal's is
    text = page()
    if arguments != ["--check"]:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8", newline="\n")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{PAGE} is not current: run python docs/generate_cli.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
