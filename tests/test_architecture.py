"""What each entry point loads, seen in a fresh process.

The import contracts in pyproject.toml hold for what modules name. They cannot see what a third
package brings along, nor that a command imports in time what it should import late.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAVY = {"torch", "fastapi", "starlette", "uvicorn"}
HELP = "from omega21.cli.app import main; main()"


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
        pytest.param("from omega21 import Client", (), id="client"),
        pytest.param(HELP, ("--help",), id="help"),
    ],
)
def test_the_client_side_loads_neither_torch_nor_a_web_framework(
    statement: str, arguments: tuple[str, ...]
) -> None:
    loaded = loaded_packages(statement, *arguments)

    assert "omega21" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_client_loads_nothing_that_only_the_command_line_shows() -> None:
    shown = {"click", "filelock", "matplotlib", "pygments", "rich", "typer"}
    assert loaded_packages("from omega21 import Client").isdisjoint(shown)


def test_the_engine_loads_no_torch_until_it_chooses_a_device() -> None:
    loaded = loaded_packages("from omega21.engine.engine import Engine")
    assert "omega21" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_an_import_deep_inside_another_is_seen() -> None:
    assert {"fastapi", "starlette"} <= loaded_packages("import fastapi.responses")


SOURCE = Path(__file__).parents[1] / "src"
CODE_IN_DATA = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "joblib",
    "cloudpickle",
    "marshal",
    "shelve",
}
IMPORTS_THE_USERS_OWN = SOURCE / "omega21/models/code/source.py"
"""The one module that imports what a user sent, on a server whose owner has allowed it."""
NAMES_THAT_RUN = {"eval", "exec", "compile", "__import__", "import_module", "load_module"}


def dangers(tree: ast.AST) -> Iterator[str]:
    """What would run code that somebody sent: unpickling, and importing by a name that varies."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant()]):
                continue
            case ast.Import(names=names):
                yield from (a.name for a in names if a.name.partition(".")[0] in CODE_IN_DATA)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in CODE_IN_DATA:
                yield module
            case ast.Call(func=ast.Name(id=name)) if name in NAMES_THAT_RUN:
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)):
                if (owner, name) == ("torch", "load") or name in NAMES_THAT_RUN - {
                    "compile",
                    "eval",
                }:
                    yield f"{owner}.{name}"


@pytest.mark.parametrize("side", ["protocol", "data", "models", "executors", "engine", "server"])
def test_nothing_that_a_request_holds_is_run(side: str) -> None:
    paths = set((SOURCE / "omega21" / side).rglob("*.py")) - {IMPORTS_THE_USERS_OWN}
    assert paths
    for path in paths:
        assert list(dangers(ast.parse(path.read_text(encoding="utf-8")))) == [], path


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "torch.load(path)",
        "importlib.import_module(name)",
        "eval(text)",
    ],
)
def test_what_would_run_it_is_noticed(code: str) -> None:
    assert list(dangers(ast.parse(code))) != []


KIND_WORDS = re.compile(r"corteza|dendrit|coheren|anomaly_prob|capa[234]|\b1600\b", re.IGNORECASE)


def test_only_models_and_the_adapter_know_the_built_in_network() -> None:
    """Its name, its heads and its width: the seven calls and their client have them too."""
    package = SOURCE / "omega21"
    known = [
        f"{path.relative_to(package)}:{number}"
        for path in package.rglob("*")
        if path.suffix in {".py", ".js", ".json", ".html"}
        and package / "models" not in path.parents
        and path.name not in {"legacy.py", "colab.py"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if KIND_WORDS.search(line)
    ]
    assert known == []


def test_the_words_of_the_built_in_network_are_noticed() -> None:
    assert KIND_WORDS.search("x [n, 1600]")
    assert KIND_WORDS.search("row.anomaly_prob")
    assert not KIND_WORDS.search("16000 steps")


def test_the_parent_of_a_server_imports_nothing_that_only_its_child_needs() -> None:
    """The child is started only then."""
    loaded = loaded_packages("import omega21.server.main")
    assert not loaded & {"torch", "fastapi", "uvicorn", "numpy"}
