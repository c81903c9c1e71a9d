"""The tasks and debug configurations of VS Code: each runs a command that there is."""

import json
import re
from typing import Any, get_args

import pytest

from omega21.cli.options import KindName
from omega21.client.request.presets import PRESETS
from tests.docs.markdown import ROOT
from tests.docs.test_commands import check_target, parse

TASKS = json.loads((ROOT / ".vscode" / "tasks.json").read_text(encoding="utf-8"))
LAUNCH = json.loads((ROOT / ".vscode" / "launch.json").read_text(encoding="utf-8"))
BOTH = [
    *((task["label"], task, TASKS) for task in TASKS["tasks"]),
    *((one["name"], one, LAUNCH) for one in LAUNCH["configurations"]),
]


def answers(asked: dict[str, Any]) -> list[str]:
    """What a person may choose at a prompt."""
    return list(asked["options"]) if asked["type"] == "pickString" else [asked["default"]]


def filled_in(arguments: list[str], document: dict[str, Any]) -> list[list[str]]:
    """The arguments with each choice of each prompt in turn, the defaults elsewhere."""
    asked = {one["id"]: one for one in document["inputs"]}
    usual = {name: one["default"] for name, one in asked.items()}
    choices = [usual | {name: answer} for name, one in asked.items() for answer in answers(one)]
    return [[_with(chosen, text) for text in arguments] for chosen in choices]


def _with(chosen: dict[str, str], text: str) -> str:
    return re.sub(r"\$\{input:(\w+)\}", lambda found: chosen[found[1]], text)


@pytest.mark.parametrize(
    ("item", "document"), [(item, document) for _, item, document in BOTH],
    ids=[f"{'task' if document is TASKS else 'launch'} {name}" for name, _, document in BOTH],
)  # fmt: skip
def test_each_runs_a_command_that_exists(item: dict[str, Any], document: dict[str, Any]) -> None:
    runs = item.get("module") or item.get("command") or document["command"]
    for words in filled_in(item["args"], document):
        assert "${input" not in " ".join(words)
        if runs == "make":
            check_target(words[0])
        elif runs == "pytest":
            assert words == ["${file}"]
        else:
            assert runs == "omega21" or runs.endswith("/omega21")
            parse(words)


@pytest.mark.parametrize("document", [TASKS, LAUNCH], ids=["tasks", "launch"])
def test_the_choices_are_those_of_the_command(document: dict[str, Any]) -> None:
    asked = {one["id"]: one for one in document["inputs"]}
    assert asked["preset"]["options"] == list(PRESETS)
    assert asked["kind"]["options"] == list(get_args(KindName))
    assert len(asked) == len(document["inputs"])
    used = set(re.findall(r"\$\{input:(\w+)\}", json.dumps(document)))
    assert used == set(asked)


def test_no_prompt_asks_for_a_token() -> None:
    """It would be among the arguments of a process, which everyone on the machine can read."""
    assert "token" not in json.dumps([one["args"] for _, one, _ in BOTH])
