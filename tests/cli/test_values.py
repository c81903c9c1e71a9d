"""Values that fit no type, homes that no shell put in, and messages said once."""

from pathlib import Path

import pytest

from tests.cli.conftest import Omega21

NOWHERE = "http://127.0.0.1:1"
HUGE = "9" * 20


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "x.npz", "--samples", HUGE),
        ("generate", "x.npz", "--samples", "5000000000"),
        ("generate", "x.npz", "--seed", HUGE),
        ("train", NOWHERE, "--samples", HUGE),
        ("train", NOWHERE, "--epochs", HUGE),
        ("train", NOWHERE, "--patience", "9" * 400),
        ("train", NOWHERE, "--every", f"{HUGE}d"),
        ("train", NOWHERE, "--pull-checkpoints", HUGE),
        ("status", NOWHERE, "--timeout", "inf"),
        ("status", NOWHERE, "--timeout", "1e300"),
        ("serve", "--threads", HUGE),
        ("serve", "--checkpoint-seconds", "nan"),
        ("serve", "--disk-limit", f"{HUGE}TB"),
        ("serve", "--disk-limit", "lots"),
        ("serve", "--unknown"),
        ("nosuch",),
    ],
    ids=" ".join,
)
def test_it_is_refused_in_one_line(arguments: tuple[str, ...], omega21: Omega21) -> None:
    done = omega21(*arguments)
    assert (done.status, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "~/x.npz", "--samples", "1"),
        ("generate", "x.npz", "--samples", "1"),
        ("runs", "list", "--workdir=~/runs"),
    ],
    ids=" ".join,
)
def test_no_folder_is_called_tilde(
    words: tuple[str, ...], omega21: Omega21, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    done = omega21(*words, HOME=str(tmp_path / "home"))
    assert done.status == 0, done.stderr
    assert not (tmp_path / "~").exists()
    assert (tmp_path / "home" / "x.npz").exists() == ("~/x.npz" in words)


def test_a_variable_names_the_home_too(omega21: Omega21, tmp_path: Path) -> None:
    done = omega21("status", NOWHERE, OMEGA21_CA="~/gone.pem")
    assert f"{tmp_path}/gone.pem" in done.stderr
