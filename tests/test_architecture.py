"""What each entry point loads, seen in a fresh process.

The import contracts in pyproject.toml hold for what modules name. They cannot see what a third
package brings along, nor that a command imports in time what it should import late.
"""

import subprocess
import sys

import pytest

HEAVY = {"torch", "fastapi", "starlette", "uvicorn"}
HELP = "from omega21.cli.main import main; main()"


def loaded_packages(statement: str, *arguments: str) -> set[str]:
    """The top-level packages that `python -c statement arguments` imports."""
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement, *arguments],
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    # import time: self [us] | cumulative | a.nested.module
    lines = [line for line in finished.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        pytest.param("import omega21", (), id="package"),
        pytest.param("import omega21.client", (), id="client"),
        pytest.param(HELP, ("--help",), id="help"),
    ],
)
def test_the_client_side_loads_neither_torch_nor_a_web_framework(
    statement: str, arguments: tuple[str, ...]
) -> None:
    loaded = loaded_packages(statement, *arguments)

    assert "omega21" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_an_import_deep_inside_another_is_seen() -> None:
    assert {"fastapi", "starlette"} <= loaded_packages("import fastapi.responses")
