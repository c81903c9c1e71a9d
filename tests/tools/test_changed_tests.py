"""Which tests `make quick` runs, in a repository of its own."""

import subprocess
from pathlib import Path

import pytest

from tools.changed_tests import CORE, ROOT, changed, mirrors


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A branch that leaves `main`: a module and a test changed, one removed, one is new."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    def write(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            with (tmp_path / name).open("a") as file:
                file.write("#\n")

    git("init", "--initial-branch", "main")
    write("src/omega21/data/order.py", "tests/data/test_order.py", "src/omega21/data/old.py")
    write("tests/test_others.py", "README.md")
    git("add", ".")
    git("commit", "-m", "first")
    git("switch", "-c", "branch")
    write("src/omega21/data/order.py", "tests/test_others.py", "README.md", "tests/data/orders.py")
    git("rm", "src/omega21/data/old.py")
    git("commit", "-a", "-m", "second")
    write("src/omega21/data/new.py")
    return tmp_path


def test_tests_mirror_what_changed_on_the_branch(repository: Path) -> None:
    paths = changed(repository)
    assert "src/omega21/data/old.py" not in paths
    assert mirrors(paths, repository) == (
        ["tests/data/test_order.py", "tests/test_others.py"],
        ["src/omega21/data/new.py"],
    )


def test_the_core_is_there() -> None:
    assert [name for name in CORE if not (ROOT / name).exists()] == []
