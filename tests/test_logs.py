"""Logs: what a line says and belongs to, what it never says, and one file for several processes."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omega21 import logs
from omega21.logs import (
    PlainLines,
    SharedFile,
    last_lines,
    log_context,
    log_to_file,
    without_secrets,
)

WRITE = """
import logging, sys
from pathlib import Path
from omega21.logs import SharedFile
handler = SharedFile(Path(sys.argv[1]), max_bytes=20_000, kept=100)
logger = logging.getLogger("writer")
logger.addHandler(handler)
for number in range(300):
    logger.warning("line %s of %s, %s", number, sys.argv[2], "x" * 60)
"""


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[logging.Logger]:
    """A logger whose file is `tmp_path / "log.jsonl"`."""
    logger = logging.getLogger("omega21.test")
    log_to_file(tmp_path / "log.jsonl", level="info", logger="omega21.test")
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """A word that a test may hide, beside a part of it that is hidden too."""
    monkeypatch.setattr(logs, "_hidden", {"secret"})
    return "a-very-secret-word"


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    text = (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_json_and_names_what_it_belongs_to(
    tmp_path: Path, logger: logging.Logger
) -> None:
    with log_context(run="mi-corrida", step=3):
        logger.info("años: %d\nof them", 7)
        with log_context(request="ab12", step=4):
            logger.warning("inner")
        logger.info("given", extra={"step": 9})
    logger.info("outside")
    logger.debug("below the level")

    first, inner, given, outside = lines(tmp_path)
    assert first["message"] == "años: 7\nof them"
    assert (first["level"], first["run"], first["step"]) == ("info", "mi-corrida", 3)
    assert first["time"].endswith("Z")
    assert (inner["request"], inner["run"], inner["step"]) == ("ab12", "mi-corrida", 4)
    assert (given["step"], "request" in given) == (9, False)
    assert not {"run", "step", "request"} & set(outside)


def test_a_trace_is_part_of_its_line(tmp_path: Path, logger: logging.Logger) -> None:
    try:
        raise ValueError("token=abcdef")
    except ValueError:
        logger.exception("it broke")
    (line,) = lines(tmp_path)
    assert "ValueError: token=***" in line["trace"]
    assert "abcdef" not in line["trace"]


def test_lines_for_people_say_it_too(secret: str) -> None:
    logs.hide(secret)
    record = logging.LogRecord("n", logging.INFO, "f", 1, "hello %s", (secret,), None)
    with log_context(run="r", request="ab"):
        assert PlainLines().format(record).endswith("INFO n: hello *** (run r, request ab)")


def test_a_hidden_word_is_nowhere(tmp_path: Path, logger: logging.Logger, secret: str) -> None:
    logs.hide(secret)
    logger.info("got %s", secret)
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        logger.exception("raised with %s", secret)
    assert secret not in (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    assert [line["message"] for line in lines(tmp_path)] == ["got ***", "raised with ***"]


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer SECRET",
        "authorization=Basic SECRET",
        '{"Authorization": "Bearer SECRET"}',
        "sent bearer SECRET along",
        "Cookie: omega21_session=SECRET; theme=SECRET",
        "set-cookie: a=SECRET; HttpOnly",
        "OMEGA21_TOKEN=SECRET",
        "?token=SECRET&run=x",
        "NGROK_AUTHTOKEN='SECRET'",
        '"session": "SECRET"',
        "password = SECRET",
        "api_key: SECRET",
    ],
)
def test_what_looks_like_a_secret_is_one(text: str) -> None:
    assert "SECRET" not in without_secrets(text)


@pytest.mark.parametrize(
    "text", ['{"token_features": 64}', "GET /runs/a/steps -> 200", "this server needs a token"]
)
def test_other_words_are_left_alone(text: str) -> None:
    assert without_secrets(text) == text


def test_processes_share_a_file_and_lose_no_line_when_it_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "shared.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(path), name]) for name in ("a", "b", "c")
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]

    files = [file for file in path.parent.iterdir() if file.suffix != ".lock"]
    assert len(files) > 5
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    expected = {f"line {number} of {name}" for number in range(300) for name in "abc"}
    assert {line["message"].partition(",")[0] for line in found} == expected
    assert len(found) == 900


def test_only_so_many_files_are_kept(tmp_path: Path) -> None:
    handler = SharedFile(tmp_path / "log.jsonl", max_bytes=1_000, kept=2)
    for number in range(100):
        handler.emit(logging.LogRecord("n", logging.INFO, "f", 1, f"line {number}", (), None))
    names = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock")
    assert names == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert (
        json.loads(last_lines(tmp_path / "log.jsonl", 1, max_bytes=999)[0])["message"] == "line 99"
    )


def test_the_last_lines_go_back_through_renamed_files(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    (tmp_path / "log.jsonl.2").write_text("1\n2\n")
    (tmp_path / "log.jsonl.1").write_text("3\n4\n")
    path.write_text("5\n6\n")
    assert last_lines(path, 3, max_bytes=100) == ["4", "5", "6"]
    assert last_lines(path, 100, max_bytes=100) == ["1", "2", "3", "4", "5", "6"]
    assert last_lines(path, 100, max_bytes=7) == ["4", "5", "6"]
    assert last_lines(tmp_path / "none.jsonl", 5, max_bytes=100) == []


def test_a_file_that_cannot_be_written_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").write_text("in the way")
    handler = SharedFile(tmp_path / "folder" / "log.jsonl")
    for _ in range(3):
        handler.emit(logging.LogRecord("n", logging.INFO, "f", 1, "m", (), None))
    assert capsys.readouterr().err.count("is not written") == 1
