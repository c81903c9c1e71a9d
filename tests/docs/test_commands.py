"""Every command that the README, the guides and the pages print does what they say.

The blocks of a page are run in their order, in one folder, against a real server, whose address and
token take the place of those on the page; sizes are cut, so that it does not take long. What a
`console` block shows as output is compared with what comes out, but for figures: a number, a digest
or a "…" stands for any other.

A block marked `<!-- not run: … -->`, and commands within a sentence, are only parsed: the command,
its options and their values have to exist.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest
import typer
from typer.core import TyperGroup

from omega21.cli.app import app
from tests.docs.markdown import ROOT, Block, blocks, pages, spans
from tests.servers import RunningServer, start_server

TOKEN = "a-token-of-the-documentation"
RUN_LANGUAGES = {"console", "bash", "python"}
EXPORTED = {"COLAB_SERVER_URL", "OMEGA21_TOKEN"}
INERT_LANGUAGES = {"text", "json"}
SPANISH = {"README.es.md", "INSTALACION_RAPIDA.md", "GUIA_RAPIDA_COLAB.md"}
"""Pages for readers whose system, and so whose `omega21`, speaks Spanish."""

_REMOTE = "https://….ngrok-free.app"
_LOCAL = "http://127.0.0.1:8000"
_RUN_NAME = r"run-\d{8}-\d{6}-[0-9a-f]{4}"
_MEANINGS = {
    "run": _RUN_NAME,
    "digest": "[0-9a-f]+",
    "number": r"\d[\d.,:]*",
    "any": ".*?",
    "gap": r"\s+",
}
_FIGURE = re.compile(
    rf"(?P<run>{_RUN_NAME})|(?P<digest>\b[0-9a-f]{{12,}}\b)|(?P<number>\d[\d.,:]*)"
    r"|(?P<any>…)|(?P<gap>\s+)"
)

PAGES = [page for page in pages() if any(blocks(page)) or any(spans(page))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("docs") / "data"
    with start_server(folder, "--allow-code", token=TOKEN) as running:
        yield running


@dataclass
class Reader:
    """Someone who does what a page says, block by block, in an empty folder."""

    folder: Path
    server: RunningServer
    locale: str = "en"
    names: dict[str, object] = field(default_factory=dict)
    exported: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """A home of its own, this environment's programs, and the server's token."""
        names = {
            "HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "OMEGA21_SERVERS": str(self.folder / "servers"),
            "LANGUAGE": self.locale,
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        plain = {key: text for key, text in os.environ.items() if key != "COLAB_SERVER_URL"}
        given = {"OMEGA21_TOKEN": TOKEN, **self.exported}
        return {**plain, **names, **given, "PATH": path, "COLUMNS": "100"}

    def fill_in(self, text: str) -> str:
        """Put the server's address and token where the page has its own."""
        text = text.replace(_REMOTE, self.server.address).replace(_LOCAL, self.server.address)
        return re.sub(r"\bTOKEN\b", TOKEN, text)

    def run_shell(self, block: Block) -> str:
        """Run a block's commands; what is exported in it holds in the blocks after it."""
        kept = self.folder / ".exported"
        start = f"trap 'env -0 > {kept}' EXIT\n"
        fails = any(line.startswith("error: ") for line in block.shown_output)
        done = subprocess.run(
            ["bash", "-c" if fails else "-ec", start + self.fill_in(cut(block.commands))],
            check=False,
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert (done.returncode != 0) == fails, f"{block}: {done.returncode}\n{done.stdout}"
        named = (line.partition("=") for line in kept.read_text().split("\0") if line)
        self.exported = {name: text for name, _, text in named if name in EXPORTED}
        return done.stdout

    def run_python(self, block: Block) -> None:
        """Run a block; it may use the names of those before it on the page.

        A block that starts with `# net.py` is that file.
        """
        if named := re.match(r"# (\w+\.py)\n", block.text):
            (self.folder / named[1]).write_text(block.text, encoding="utf-8")
        code = compile(self.fill_in(block.text), str(block), "exec")
        with patch.dict(os.environ, self.environment()):
            exec(code, self.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_does_what_it_says(
    page: Path, server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(tmp_path, server, locale="es_ES" if page.name in SPANISH else "en")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        assert block.language in RUN_LANGUAGES | INERT_LANGUAGES, f"{block}: say what it is in"
        if block.not_run:
            check_commands(block.commands)
            check_hints(block)
        elif block.language == "python":
            reader.run_python(block)
        elif block.language in RUN_LANGUAGES:
            output = reader.run_shell(block)
            check_output(reader.fill_in("\n".join(block.shown_output)), output, where=str(block))
    for text in spans(page):
        check_commands(text)


def cut(script: str) -> str:
    """Make trainings small: their figures are not compared."""
    # The command that `make demo` runs, once everything is installed; two steps of the eight.
    script = script.replace("make demo", "omega21 demo --samples 128")
    script = re.sub(r"(train .*)(--samples|--muestras) \d+", r"\1\2 48", script)
    script = re.sub(r"(--validation|--validacion) \d+", r"\1 20", script)
    small = r"\g<0> --validation 20 --samples 48"
    return re.sub(r"omega21 train(?=.*--preset)", small, script)


def check_output(shown: str, output: str, *, where: str) -> None:
    """Check that the lines shown come out, in their order, whatever their figures are."""
    rest = output
    for line in shown.splitlines():
        found = re.search(f"^{pattern(line.strip())}", rest, re.MULTILINE)
        assert found, f"{where}: no line such as {line!r} in\n{output}"
        rest = rest[found.end() :]


def pattern(line: str) -> str:
    """A regular expression for a line of output with any figures."""
    parts: list[str] = []
    end = 0
    for found in _FIGURE.finditer(line):
        assert found.lastgroup is not None
        parts += [re.escape(line[end : found.start()]), _MEANINGS[found.lastgroup]]
        end = found.end()
    return "".join([*parts, re.escape(line[end:])])


def check_hints(block: Block) -> None:
    """Check that what an error says to do, where it cannot be made to happen, is in the code."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    for line in block.shown_output:
        if line.startswith("error: "):
            hint = line.rpartition("; ")[2]
            assert hint in code, f"{block}: no error says {hint!r}"


def check_commands(script: str) -> None:
    """Parse the commands of ours in a script, without running them."""
    for line in script.replace("\\\n", " ").splitlines():
        for command in re.findall(
            r"(?:^|&& |\| |; |!)((?:omega21|make) .+?)(?= && | \| |;|$)", line
        ):
            program, *words = shlex.split(command, comments=True)
            if program == "make":
                check_target(words[-1])
            elif not {"…", "--help", "--version"} & set(words):
                parse(words)


def check_target(name: str) -> None:
    """Check that make knows a target; an assignment is none."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "=" in name or re.search(rf"^{re.escape(name)}:", makefile, re.MULTILINE), (
        f"no target {name}"
    )


def parse(words: list[str]) -> None:
    """Parse an omega21 command as far as running it; an unknown option raises."""
    command = typer.main.get_command(app)
    context = command.make_context("omega21", list(words))
    while isinstance(command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        if not rest and command.name == "omega21":
            return  # a command by its name alone: it exists
        command, context = found, found.make_context(name, rest, parent=context)
