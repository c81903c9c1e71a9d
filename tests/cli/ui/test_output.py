"""What each primitive of the output prints, for people, as JSON and not at all."""

import json

import pytest

from omega21.cli.ui.output import Output, key_values, table
from omega21.cli.values import seconds, size
from omega21.protocol.errors import InvalidRequest

FACTS = key_values([("run", "a"), ("average", "0.5")])


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")


def printed(capsys: pytest.CaptureFixture[str], **mode: bool) -> tuple[str, str]:
    output = Output(**mode)
    output.info("a note, which is longer than the forty columns of this terminal")
    output.details(key_values([("aside", "1")]))
    output.result({"run": "a", "average": 0.5}, FACTS)
    out, err = capsys.readouterr()
    return out, err


NOTE = "a note, which is longer than the forty columns of this terminal\n"


def test_people_read_results_on_stdout_and_notes_on_stderr_unbroken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert printed(capsys) == ("aside  1\nrun      a\naverage  0.5\n", NOTE)


def test_json_is_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, json=True)

    assert json.loads(out) == {"run": "a", "average": 0.5}
    assert out.count("\n") == 1
    assert err == f"{NOTE}aside  1\n"


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, quiet=True) == ("", "")


def test_a_table_keeps_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    made = table(("run", "server"), [("a", "http://127.0.0.1:8000/" + "x" * 30)])
    Output().result({}, made)

    lines = capsys.readouterr().out.splitlines()
    assert "".join(line[5:].strip() for line in lines[1:]) == "http://127.0.0.1:8000/" + "x" * 30
    assert all(len(line) <= 40 for line in lines)


def test_a_number_that_json_does_not_have_is_a_fault() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Output(json=True).result({"loss": float("nan")}, "")


@pytest.mark.parametrize(("stdin", "is_yes"), [("y\n", True), ("sí\n", True), ("\n", False)])
def test_only_a_yes_confirms(
    stdin: str, is_yes: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    assert Output().confirmed("remove it?") is is_yes
    assert capsys.readouterr() == ("", "remove it? [y/N] ")


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("1.5m", 90), ("1h", 3600), ("2D", 172_800)]
)
def test_lengths_of_time(text: str, value: float) -> None:
    assert seconds(text, "--every") == value


@pytest.mark.parametrize(
    ("text", "value"), [("500", 500), ("1.5GB", 1_500_000_000), ("2 kb", 2000)]
)
def test_sizes(text: str, value: int) -> None:
    assert size(text, "--disk-limit") == value


@pytest.mark.parametrize("text", ["", "soon", "-1h", "1w", "1GB"])
def test_what_is_no_length_of_time_names_the_option(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--every takes a length of time"):
        seconds(text, "--every")


@pytest.mark.parametrize("text", ["", "much", "-1", "1XB", "1h"])
def test_what_is_no_size_names_the_option(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--disk-limit takes a number of bytes"):
        size(text, "--disk-limit")
