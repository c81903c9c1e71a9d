"""What comes from elsewhere acts on no terminal, log or report."""

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.live import Live
from rich.text import Text

from omega21.cli.errors import report
from omega21.cli.report import blocks
from omega21.cli.report.markdown import write_markdown
from omega21.cli.ui.output import Output, SafeConsole, key_values, table
from omega21.logs import JsonLines, PlainLines
from omega21.protocol.errors import InvalidRequest

BAD = ["\x1b[2J", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\u202eevil", "\x9b31m", "\u2066x"]
ACTING = "\x1b\x07\x9b\u202e\u2066"


def clean(text: str) -> bool:
    return text != "" and not set(text) & set(ACTING)


@pytest.mark.parametrize("bad", BAD)
def test_no_sink_lets_it_through(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.info(f"a notice {bad}")
    output.result({}, key_values([("device", bad)]))
    output.result({}, table(["name"], [[bad]]))
    output.details(Text(bad))
    report(InvalidRequest(f"detail {bad}", hint=f"hint {bad}"))
    shown = capsys.readouterr()
    assert clean(shown.out)
    assert clean(shown.err)


@pytest.mark.parametrize("bad", BAD)
def test_a_live_view_keeps_its_own_moves_alone(bad: str) -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=80)
    with Live(Text(f"view {bad}"), console=console, auto_refresh=False) as live:
        live.refresh()
    assert isinstance(console.file, io.StringIO)
    assert bad not in console.file.getvalue()


@pytest.mark.parametrize("bad", BAD)
def test_logs_escape_it_and_json_gives_it_back(bad: str) -> None:
    record = logging.LogRecord("omega21", logging.INFO, "", 0, "%s", (bad,), None)
    line = JsonLines().format(record)
    assert clean(line)
    assert json.loads(line)["message"] == bad
    assert clean(PlainLines().format(record))


@pytest.mark.parametrize("bad", [*BAD, "a\n# b.npz"])
def test_a_report_keeps_it_in_its_block(bad: str) -> None:
    section = blocks.Section("again", (blocks.Commands((f"omega21 train --data {bad}",)),))
    page, _ = write_markdown(blocks.Report(bad, bad, (("a", bad),), (section,), bad), "stem")
    assert clean(page)
    assert "\n# b" not in page


@pytest.mark.parametrize("encoding", ["gbk", "cp932", "cp1251", "cp437"])
def test_help_is_shown_in_any_encoding(encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "omega21", "--lang", "es", "train", "--help"]
    shown = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"--preset" in shown.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_no_fault(closed: str, tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m omega21 generate --samples 1 "{tmp_path}/x.npz" {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.npz").stat().st_size > 0


@pytest.mark.parametrize(
    "words", [["generate", "--samples", "1", "x.npz"], ["--help"]], ids=" ".join
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_behind_standard_output_is_one_line(words: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "omega21", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
