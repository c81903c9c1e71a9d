"""`train --model`: its files are listed, its options passed, what is wrong said before all else."""

from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer

from omega21.cli.ui.help import Command
from omega21.cli.values import option_values
from omega21.protocol.errors import InvalidRequest
from tests.cli.conftest import TOKEN, Omega21
from tests.servers import RunningServer

NET = """\
from torch import nn
import parts


def build(schema, *, hidden, name):
    assert (hidden, name) == (6, "a net")
    return nn.Sequential(nn.Linear(4, hidden), parts.last(hidden))
"""


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """The options of a model of one's own and its samples, in the folder of the command."""
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    text = "from torch import nn\n\n\ndef last(hidden):\n    return nn.Linear(hidden, 3)\n"
    (tmp_path / "parts.py").write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=rng.integers(0, 3, 40))
    return ["--model", "net.py:build", "--data", "data.npz", "--validation", "0"]


def test_it_is_trained_and_resumed_on_this_machine_too(
    omega21: Omega21, server: RunningServer, own: list[str], tmp_path: Path
) -> None:
    options = ["--set", "hidden=6", "--set", "name=a net", "--loss", "cross_entropy"]
    done = omega21("train", server.address, "--run", "own", *own, *options, OMEGA21_TOKEN=TOKEN)
    assert done.status == 0, done.stderr
    for name in ("net.py", "parts.py", "sha256:", "source sent: 2 files"):
        assert name in done.stdout + done.stderr
    (tmp_path / "net.py").unlink()  # the run has it
    verified = omega21("verify", "own")
    assert verified.status == 0, verified.stderr


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--model", "gone.py:build"], 47, "there is no file"),
        (["--set", "hidden=6"], 2, "--model"),
        (["--install"], 2, "--model"),
        (["--model", "net.py:build", "--set", "hidden"], 2, "--set takes NAME=VALUE"),
        (["--model", "net.py:build", "--include", "*.bin"], 47, "no file in"),
        (["--model", "net.py:build", "--code-limit", "10"], 47, "net.py"),
        (["--model", "net.py:build", "--install", "--requirement", "-e ."], 47, "requirement"),
    ],
)
def test_what_is_wrong_is_said_first(
    omega21: Omega21, own: list[str], options: list[str], status: int, said: str
) -> None:
    done = omega21("train", "http://127.0.0.1:9", "--data", own[3], *options)
    assert (done.status, said in done.stderr) == (status, True), done.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=1.5", 1.5),
        ("a=true", True),
        ("a=null", None),
        ("a=[1, 2]", [1, 2]),
        ('a="7"', "7"),
        ("a=big net", "big net"),
        ("a=", ""),
        ("a=x=y", "x=y"),
        ("a=NaN", "NaN"),
    ],
)
def test_values_are_json_or_text(text: str, value: object) -> None:
    assert option_values([text]) == {"a": value}


@pytest.mark.parametrize("given", [["a"], ["1a=2"], ["a b=2"], ["a=1", "a=2"]])
def test_wrong_options_are_refused(given: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="--set"):
        option_values(given)


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["--allow-code"], ("any",)),
        (["--allow-code", "--port", "1"], ("any",)),
        (["--allow-code", "sha256:a", "--allow-code"], ("sha256:a", "any")),
        (["--port", "1"], ()),
    ],
)
def test_the_consent_may_stand_without_a_value(words: list[str], read: tuple[str, ...]) -> None:
    found: list[tuple[str, ...]] = []
    app = typer.Typer()

    def serve(
        allow_code: Annotated[list[str] | None, typer.Option()] = None, port: int = 0
    ) -> None:
        found.append((*(allow_code or ()), str(port)))

    app.command(cls=Command)(serve)
    app(words, standalone_mode=False)
    assert found == [(*read, "1" if "--port" in words else "0")]
