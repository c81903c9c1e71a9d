"""The commands in a report that repeat a run, read by the real command line."""

import shlex

import pytest
from pydantic import JsonValue

from omega21.cli.report.repeating import commands, reservation
from omega21.cli.values import option_values
from omega21.client.store.run_folder import RunRecord
from omega21.protocol.optimizers import OptimizerConfig
from omega21.protocol.plan import Segment, Source
from omega21.protocol.runs import RunConfig
from omega21.protocol.schema import Schema, TensorSpec
from omega21.protocol.tasks.task import CodeTask
from tests.docs.test_commands import parse

NUMBERS = TensorSpec(dtype="float32", shape=(8,))
OPTIONS: dict[str, JsonValue] = {
    "hidden": 256,
    "rate": 0.5,
    "name": "gelu",
    "digits": "12",
    "wide": [1, 2],
    "on": True,
}
TASK = CodeTask(
    entry="nets.big:make",
    code_sha256="0" * 64,
    config=OPTIONS,
    loss="huber",
    requirements=("einops>=0.8",),
)


def record(schema: Schema) -> RunRecord:
    config = RunConfig(
        task=TASK,
        sample_schema=schema,
        optimizer=OptimizerConfig(name="sgd", momentum=0.9),
        deterministic=False,
    )
    return RunRecord(run="own", id="a" * 32, config=config, created_at=1.0, validation=10)


SEGMENT = Segment(
    samples=80, batch_size=8, epochs=2, source=Source(kind="simple", anomaly_percent=10)
)


def words(schema: Schema) -> list[str]:
    (command,) = commands(record(schema), [SEGMENT])
    parsed = shlex.split(command)
    parse(parsed[1:])
    return parsed


def after(words: list[str], option: str) -> list[str]:
    return [words[place + 1] for place, word in enumerate(words) if word == option]


def test_a_model_of_the_users_own_is_repeated_with_its_options() -> None:
    found = words(Schema(inputs={"x": NUMBERS}, targets={"y": NUMBERS}))
    assert after(found, "--model") == ["nets/big.py:make"]
    assert option_values(after(found, "--set")) == OPTIONS
    assert after(found, "--loss") == ["huber"]
    assert after(found, "--requirement") == ["einops>=0.8"]
    assert after(found, "--optimizer") == ["sgd"]
    assert {"--install", "--fast"} < set(found)


@pytest.mark.parametrize(
    ("inputs", "targets", "said"),
    [
        (["x"], ["y"], []),
        (["x"], [], []),
        (["x", "y"], [], ["none"]),
        (["x"], ["label", "y"], ["label,y"]),
    ],
)
def test_targets_are_named_where_they_are_not_the_usual_ones(
    inputs: list[str], targets: list[str], said: list[str]
) -> None:
    schema = Schema(inputs=dict.fromkeys(inputs, NUMBERS), targets=dict.fromkeys(targets, NUMBERS))
    assert after(words(schema), "--targets") == said


def test_what_the_command_needs_beside_is_said() -> None:
    said = reservation(record(Schema(inputs={"x": NUMBERS})), [SEGMENT])
    assert said is not None
    assert f"sha256:{'0' * 64}" in said
    assert "in Python" not in said
