"""A hostile server does the client no harm: bounded memory and time, one printable line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from omega21 import Client
from omega21.protocol.evaluations import Evaluation
from tests.attacks.harms import (
    NUMBERS,
    OTHERS,
    PULL,
    READ_BY,
    field_is,
    file_harms,
    reply_harms,
)
from tests.attacks.hostile import (
    RUN,
    Harm,
    HostileServer,
    Recorded,
    faults_of,
    record,
    run_client,
)
from tests.engine.engines import CONFIG, cut, make_samples, make_segment
from tests.servers import start_server

STEPS = 4
EVALUATION = Evaluation(
    step=STEPS,
    samples=8,
    loss=0.5,
    metrics={"auroc": 0.9, "average_precision": 0.8},
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """What a real server says of a run that it trained."""
    return record_run(tmp_path_factory.mktemp("recorded"))


def record_run(folder: Path) -> Recorded:
    shards = cut(make_samples(16), 16)
    with (
        start_server(folder / "data", "--device", "cpu", "--threads", "1") as server,
        Client(server.address) as client,
    ):
        state = client.api.runs.create(RUN, config=CONFIG)
        for shard in shards:
            client.api.shards.put(shard.sha256, shard.body)
        segment = make_segment(shards, batch_size=4)
        client.api.plans.put_segment(RUN, 0, run_id=state.id, segment=segment)
        client.api.runs.advance(RUN, run_id=state.id, to=STEPS)
        while client.api.steps.read(RUN, after=STEPS, wait=25, limit=1).durable_step < STEPS:
            pass  # a long poll each
        client.api.evaluations.record(RUN, EVALUATION, run_id=state.id)
        return record(server.address, RUN)


@pytest.fixture
def hostile(recorded: Recorded) -> Iterator[HostileServer]:
    with HostileServer(recorded).running() as server:
        yield server


@pytest.mark.parametrize("command", sorted(set(READ_BY.values())), ids=" ".join)
def test_without_harm_the_commands_work(
    command: tuple[str, ...], hostile: HostileServer, tmp_path: Path
) -> None:
    ended = run_client(command, hostile, tmp_path)
    assert not faults_of(ended)
    assert ended.status == 0, ended.err


QUICK = (
    *("encoded as 'br'", "encoded as 'zstd'", "an error encoded as 'gzip'", "250 MB of rows"),
    *("100,000 runs", "a page of 2 GB", "4 MB of objects", "a body that drips"),
    *("Retry-After: 86400", "retry_after Infinity", "escapes in an error", "without end"),
    *("a header of 2^63 bytes", "BF16", "10^15 bytes announced", "an error of 2 GB"),
)


def _quick() -> list[Harm]:
    named = {harm.name: harm for harm in [*reply_harms(), *file_harms()]}
    return [named[name] for name in QUICK]


@pytest.mark.parametrize("harm", _quick(), ids=str)
def test_a_harmful_reply_is_one_line(harm: Harm, hostile: HostileServer, tmp_path: Path) -> None:
    hostile.harm = harm
    ended = run_client(harm.command, hostile, tmp_path)
    assert hostile.harmed
    assert not faults_of(ended)
    assert ended.status not in (0, 1), ended.out
    assert not list(tmp_path.glob("*.safetensors"))


FIELDS = {
    "/steps": ("steps", 0, "step"),
    "/status": ("estadisticas", "loss_promedio_global"),
    "/runs": ("runs", 0, "state"),
    "/evaluations": ("evaluations", 0, "metrics", "auroc"),
}


@pytest.mark.parametrize("at", FIELDS)
@pytest.mark.parametrize("text", [NUMBERS[0], "NaN", OTHERS[5]], ids=["digits", "nan", "escapes"])
def test_a_wrong_field_is_one_line(
    at: str, text: str, hostile: HostileServer, tmp_path: Path
) -> None:
    harm = Harm("field", READ_BY[at], at, field_is(FIELDS[at], text))
    hostile.harm = harm
    ended = run_client(harm.command, hostile, tmp_path)
    assert hostile.harmed
    assert not faults_of(ended)
    assert ended.status != 0


def test_a_page_that_comes_again_and_again_ends(hostile: HostileServer, tmp_path: Path) -> None:
    first = hostile.recorded[f"/runs/{RUN}/evaluations"]
    hostile.harm = Harm("the first page", READ_BY["/evaluations"], "/evaluations", lambda _: first)
    ended = run_client(hostile.harm.command, hostile, tmp_path)
    assert hostile.harmed > 1
    assert not faults_of(ended)
    assert "not ascending" in ended.err


def test_what_was_there_before_stays(hostile: HostileServer, tmp_path: Path) -> None:
    kept = tmp_path / "c.safetensors"
    kept.write_bytes(b"mine")
    hostile.harm = next(harm for harm in file_harms() if harm.name == "without end")
    assert run_client(PULL, hostile, tmp_path).status != 0
    assert kept.read_bytes() == b"mine"
    assert json.loads(hostile.recorded["/info"].body)["nombre"]
